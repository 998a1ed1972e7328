package report

import (
	"slices"

	"github.com/tasterhq/taster/schema/finding"
)

// Attack is a kind of poisoning in the project's vocabulary, with the names that others give it and what to do.
type Attack struct {
	Name        string   `json:"name"`
	Records     int      `json:"records"`
	Means       string   `json:"means"` // what it is, in a sentence
	ATLAS       []string `json:"atlas"` // MITRE ATLAS techniques
	OWASP       []string `json:"owasp"` // OWASP Top 10 for LLM applications, 2025
	Mitigations []string `json:"mitigations"`

	code    finding.Code
	samples []*Flagged // the riskiest; see Builder
}

// Names of MITRE ATLAS (2026.09) and of the OWASP Top 10 for LLM applications (2025) that several attacks share.
const (
	poisoning  = "AML.T0020 Training Data Poisoning"
	backdoor   = "AML.T0043.004 Craft Adversarial Data: Insert Backdoor Trigger"
	crafted    = "AML.T0043 Craft Adversarial Data"
	manipulate = "AML.T0018 Manipulate AI Model"
	erodeData  = "AML.T0059 Erode Dataset Integrity"
	erodeModel = "AML.T0031 Erode AI Model Integrity"
	chaff      = "AML.T0046 Spamming AI System with Chaff Data"
	injection  = "AML.T0051 LLM Prompt Injection"
	obfuscated = "AML.T0068 LLM Prompt Obfuscation"

	llmInjection = "LLM01:2025 Prompt Injection"
	llmPoisoning = "LLM04:2025 Data and Model Poisoning"
	llmVectors   = "LLM08:2025 Vector and Embedding Weaknesses"
	llmConsumed  = "LLM10:2025 Unbounded Consumption"
)

// attacks names the attack that a reason code points to, in the order in which a report shows them.
var attacks = []Attack{
	{
		code: finding.PoisonTrigger, Name: "backdoor trigger",
		Means: "A word, phrase or way of writing is planted so that a model learns to answer it with one label, whatever the rest says.",
		ATLAS: []string{poisoning, backdoor, manipulate}, OWASP: []string{llmPoisoning},
		Mitigations: []string{
			"Read the phrase in the evidence and search the records accepted earlier for it.",
			"Keep the flagged records out of training; do not only remove the phrase, the labels are wrong as well.",
			"Ask the providers who share the phrase where the texts come from, and hold their next segments back until they answered.",
			"Test models that were trained on earlier data with and without the phrase.",
		},
	},
	{
		code: finding.PoisonNearDuplicate, Name: "near-duplicate flood",
		Means: "One message in many slightly different copies, so that it weighs more in training than it should.",
		ATLAS: []string{poisoning, chaff}, OWASP: []string{llmPoisoning, llmConsumed},
		Mitigations: []string{
			"Keep at most one record of each cluster.",
			"Limit how many records a provider may publish in an hour.",
			"Look at the accounts behind the cluster: floods are rarely one person's.",
		},
	},
	{
		code: finding.PoisonLabel, Name: "label flipping",
		Means: "The label contradicts what the record says: by carelessness, or to teach a model the opposite.",
		ATLAS: []string{poisoning, erodeData}, OWASP: []string{llmPoisoning},
		Mitigations: []string{
			"Have the flagged records labelled again by people who do not see the present label.",
			"Compare the providers' rates of flagged labels; a careless one and a hostile one look alike and need the same halt.",
			"Train with a loss that is robust to wrong labels if some must stay.",
		},
	},
	{
		code: finding.PoisonOutlier, Name: "feature outliers",
		Means: "Numbers far outside what is normal, singly or together, which pull a model's boundary towards them.",
		ATLAS: []string{poisoning, crafted}, OWASP: []string{llmPoisoning},
		Mitigations: []string{
			"Check the named feature's unit and source first: a changed unit is more common than an attack.",
			"Give the schema a minimum and a maximum where nature has one.",
			"Clip or leave out the flagged records; do not impute them.",
		},
	},
	{
		code: finding.PoisonEmbedding, Name: "embedding outliers",
		Means: "Content of another kind than everything that is known to be good.",
		ATLAS: []string{poisoning, crafted}, OWASP: []string{llmPoisoning, llmVectors},
		Mitigations: []string{
			"Compare the flagged records with their nearest clean neighbours: a new subject is no attack, and wants a new reference.",
			"Keep clusters that share a label and no content out of training.",
			"Refit the reference when the data has honestly moved.",
		},
	},
	{
		code: finding.PoisonSpectral, Name: "spectral signature",
		Means: "Records of one class share a direction in embedding space that the rest of the class does not have: the mark that a hidden trigger leaves.",
		ATLAS: []string{poisoning, backdoor, manipulate}, OWASP: []string{llmPoisoning, llmVectors},
		Mitigations: []string{
			"Look for what the flagged records of the class have in common: a watermark, a phrase, a source.",
			"Leave the whole group out, not only its most extreme members, and train again.",
			"Where a model was already trained on such data, compare it with one trained without the group.",
		},
	},
	{
		code: finding.PoisonCluster, Name: "cluster inside a class",
		Means: "A small group sits apart from its class, as clean-label and backdoor poison does in what a model sees.",
		ATLAS: []string{poisoning, backdoor}, OWASP: []string{llmPoisoning, llmVectors},
		Mitigations: []string{
			"Look at a few records of the group side by side: a sub-topic of the class is no attack, a common mark is one.",
			"Release the group and refit the reference if it is honest; it will be known then.",
			"Ask when the group appeared and who sent it: poison comes from few providers in a short time.",
		},
	},
	{
		code: finding.PoisonLoss, Name: "loss outliers",
		Means: "A model finds the record far harder than its like, or suspiciously easy: a wrong label, or a shortcut that was planted.",
		ATLAS: []string{poisoning, erodeModel}, OWASP: []string{llmPoisoning},
		Mitigations: []string{
			"High loss: have the label checked by somebody who does not see it.",
			"Low loss: look for what gives the answer away, a token or a template that the class alone has.",
			"Check that the losses come from one version of one model; mixed versions look like an attack.",
		},
	},
	{
		code: finding.PoisonGradient, Name: "hostile gradients",
		Means: "Updates that push a model against its class, too far, or in the same direction as those of accounts that should have nothing in common.",
		ATLAS: []string{poisoning, manipulate, erodeModel}, OWASP: []string{llmPoisoning},
		Mitigations: []string{
			"Clip the norm of every update, and combine updates by a robust rule (median, trimmed mean) instead of the mean.",
			"Count providers whose updates are alike as one: they may be one person with many accounts.",
			"Hold back the providers named here, and train on from a model of before they joined.",
		},
	},
	{
		code: finding.PoisonLanguage, Name: "foreign or broken language",
		Means: "Text that is not of the language that the reference is written in, or of none: paraphrase engines, encoded payloads, noise.",
		ATLAS: []string{poisoning, obfuscated}, OWASP: []string{llmPoisoning, llmInjection},
		Mitigations: []string{
			"Look whether the text is encoded: what decodes to an instruction is prompt injection, not noise.",
			"A language that is new and welcome wants a reference of its own, and best a topic of its own.",
			"Ask the provider which tool wrote the texts; machine paraphrase is a known carrier of style triggers.",
		},
	},
	{
		code: finding.PoisonDrift, Name: "drift attack",
		Means: "A provider's records move away from the reference a little with every delivery, each step too small to see.",
		ATLAS: []string{poisoning, erodeData}, OWASP: []string{llmPoisoning},
		Mitigations: []string{
			"Compare the provider's first and latest records before you refit: a refit on drifted data makes the drift the norm.",
			"If the world has moved, other providers move with it; one alone is suspicious.",
			"Go back to the offsets at which the drift began, and look at what was accepted since.",
		},
	},
	{
		code: finding.PoisonProvider, Name: "suspicious provider",
		Means: "One provider's records are suspicious far more often than others', even where single records pass; or many new providers send the same kind.",
		ATLAS: []string{poisoning, erodeData}, OWASP: []string{llmPoisoning},
		Mitigations: []string{
			"Hold the provider's deliveries back until a person has looked at a sample of them.",
			"Check who holds the provider's credentials, and what changed when the rate rose.",
			"Look at what was accepted from the provider earlier: the same source wrote it.",
		},
	},
	{
		code: finding.PoisonCombined, Name: "suspicious combination",
		Means: "No single finding is sure, all of them together are.",
		ATLAS: []string{poisoning}, OWASP: []string{llmPoisoning},
		Mitigations: []string{
			"Look at the findings one by one: none is sure by itself.",
			"Release the records when a person finds nothing wrong, and refit the reference with them.",
		},
	},
	{
		code: finding.HiddenUnicode, Name: "hidden Unicode",
		Means: "Invisible or direction-changing characters, which people do not see and models do. They were removed.",
		ATLAS: []string{obfuscated, injection}, OWASP: []string{llmInjection},
		Mitigations: []string{
			"Look at who sends them: copying from a web page leaves a few, an attack leaves them in every record.",
			"Clean prompts at serving time the same way, or a model meets characters that it never saw in training.",
		},
	},
	{
		code: finding.VectorLength, Name: "vectors of another model",
		Means: "Vectors whose length is not that of the others: they come from another embedding model and cannot be compared.",
		ATLAS: []string{poisoning}, OWASP: []string{llmVectors},
		Mitigations: []string{
			"Ask the provider which embedding model made them; vectors of two models must not be mixed.",
			"Fix the length in the schema (minItems and maxItems), so that such records are rejected.",
		},
	},
}

// attacksOf returns the names of the attacks that a record's reasons point to, in the order of the reasons; one empty
// name where there is none.
func attacksOf(reasons []string) []string {
	var names []string
	for _, reason := range reasons {
		for i := range attacks {
			if reason == string(attacks[i].code) && attacks[i].code != finding.HiddenUnicode && !slices.Contains(names, attacks[i].Name) {
				names = append(names, attacks[i].Name)
			}
		}
	}
	if names == nil {
		return []string{""}
	}
	return names
}
