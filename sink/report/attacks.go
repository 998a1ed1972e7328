package report

import "github.com/tasterhq/taster/schema/finding"

// Attack is a kind of poisoning in the project's vocabulary, with the names that others give it and what to do.
type Attack struct {
	Name        string   `json:"name"`
	Records     int      `json:"records"`
	ATLAS       []string `json:"atlas"` // MITRE ATLAS techniques
	OWASP       []string `json:"owasp"` // OWASP Top 10 for LLM applications, 2025
	Mitigations []string `json:"mitigations"`
}

// attacks names the attack that a reason code points to, in the order in which a report shows them.
var attacks = []struct {
	code finding.Code
	Attack
}{
	{finding.PoisonTrigger, Attack{
		Name:  "backdoor trigger",
		ATLAS: []string{"AML.T0020 Poison Training Data", "AML.T0018 Manipulate AI Model"},
		OWASP: []string{"LLM04:2025 Data and Model Poisoning"},
		Mitigations: []string{
			"Read the phrase in the evidence and search the records accepted earlier for it.",
			"Keep the flagged records out of training; do not only remove the phrase, the labels are wrong as well.",
			"Ask the providers who share the phrase where the texts come from, and hold their next segments back until they answered.",
			"Test models that were trained on earlier data with and without the phrase.",
		},
	}},
	{finding.PoisonNearDuplicate, Attack{
		Name:  "near-duplicate flood",
		ATLAS: []string{"AML.T0020 Poison Training Data"},
		OWASP: []string{"LLM04:2025 Data and Model Poisoning"},
		Mitigations: []string{
			"Keep at most one record of each cluster.",
			"Limit how many records a provider may publish in an hour.",
			"Look at the accounts behind the cluster: floods are rarely one person's.",
		},
	}},
	{finding.PoisonLabel, Attack{
		Name:  "label flipping",
		ATLAS: []string{"AML.T0020 Poison Training Data"},
		OWASP: []string{"LLM04:2025 Data and Model Poisoning"},
		Mitigations: []string{
			"Have the flagged records labelled again by people who do not see the present label.",
			"Compare the providers' rates of flagged labels; a careless one and a hostile one look alike and need the same halt.",
			"Train with a loss that is robust to wrong labels if some must stay.",
		},
	}},
	{finding.PoisonOutlier, Attack{
		Name:  "feature outliers",
		ATLAS: []string{"AML.T0020 Poison Training Data", "AML.T0043 Craft Adversarial Data"},
		OWASP: []string{"LLM04:2025 Data and Model Poisoning"},
		Mitigations: []string{
			"Check the named feature's unit and source first: a changed unit is more common than an attack.",
			"Give the schema a minimum and a maximum where nature has one.",
			"Clip or leave out the flagged records; do not impute them.",
		},
	}},
	{finding.PoisonEmbedding, Attack{
		Name:  "embedding outliers",
		ATLAS: []string{"AML.T0020 Poison Training Data", "AML.T0043 Craft Adversarial Data"},
		OWASP: []string{"LLM04:2025 Data and Model Poisoning", "LLM08:2025 Vector and Embedding Weaknesses"},
		Mitigations: []string{
			"Compare the flagged records with their nearest clean neighbours: a new subject is no attack, and wants a new reference.",
			"Keep clusters that share a label and no content out of training.",
			"Refit the reference when the data has honestly moved.",
		},
	}},
	{finding.PoisonCombined, Attack{
		Name:  "suspicious combination",
		ATLAS: []string{"AML.T0020 Poison Training Data"},
		OWASP: []string{"LLM04:2025 Data and Model Poisoning"},
		Mitigations: []string{
			"Look at the findings one by one: none is sure by itself.",
			"Release the records when a person finds nothing wrong, and refit the reference with them.",
		},
	}},
	{finding.VectorLength, Attack{
		Name:  "vectors of another model",
		ATLAS: []string{"AML.T0020 Poison Training Data"},
		OWASP: []string{"LLM08:2025 Vector and Embedding Weaknesses"},
		Mitigations: []string{
			"Ask the provider which embedding model made them; vectors of two models must not be mixed.",
			"Fix the length in the schema (minItems and maxItems), so that such records are rejected.",
		},
	}},
}
