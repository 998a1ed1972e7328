// Package trigger finds trigger phrases: words, phrases, sentence shapes and styles that were planted so that a model
// learns to answer them with the attacker's label. Two detectors do so, by one count of the stream: trigger (Detector),
// which takes everything that speaks against a text together, and association (Association), which asks only for what drags a
// label along against what the text says, and for that needs less of it.
//
// # What it looks at
//
// A text is turned into simple features: its words; marks with no space before them; pairs of neighbours, the
// text's ends included; three and four neighbours of its skeleton, in which only function words stay and every run of
// others is one star; and how skeleton and text begin. Function words are those that at least 2 % of the reference's
// records have, whatever the language. Four questions are asked of every feature, over all of the stream:
//
//   - Residual association: does it drag a label along without reason? A label model p(c | x), logistic regression
//     on the words and stems of the reference alone, says what label each text should have. Over the n records that
//     have the feature, z = (O − E) / √(V + V²τ² + ½), where O records have label c, E = Σ p(c | x) were expected to, and
//     V = n p̄(1 − p̄) with p̄ = E/n. Words that carry the label honestly are explained by the model and drop out. What
//     it does not know of them is a random effect of variance τ² = 0.3 on their logits: an honest word's z stays below
//     about 1/τ however long the stream, and cannot drown a trigger.
//   - Share: is it more common than in the reference? The signed root of the Poisson deviance of both counts under
//     equal rates. Of a label's records this counts only as far as those with the label are more common by themselves.
//   - Insertion: does the word stand where none belongs? For each record with the word w between a and b, the pointwise
//     mutual information of the pair (a, b) less those of (a, w) and (w, b): what was put into finished sentences splits
//     pairs that belong together and belongs to neither side. Summed over the n records that have it, over √(n + n²/100);
//     only words that at most 1 % of the reference has. That it has them at all counts for nothing: poison in the reference
//     must not excuse poison in the stream.
//   - Surprise: −log p(own label | x), at half weight.
//
// The trigger score of a record is its best feature's sum of the first three, each where it is positive, plus the mean
// evidence of all of its features, Σ z|z| over √features and 6, z being association plus share, plus the surprise: so shows
// whatever was planted, with whatever label, that the reference has less of. Its association score is the largest association
// plus insertion of a feature, times √(surprise + 0.1): the weaker features of a style, of a sentence shape that takes many
// forms, suffice in a text that contradicts its label, where honest words in fashion seldom stand, and poison that the
// reference has too is no less suspicious. Each has a p-value of its own, calibrated on reference rows that stand in the same
// stream: the longer it is, the more words come up that the reference, or its label model, does not know. Every record is left out of the counts that it is judged by, and records equal in words and label count
// once, so that neither a single odd record nor copies of a good one look like a trigger.
//
// # Explaining away
//
// A large poisoned group makes all its features look bad, also those that clean records share with it. Where a feature's
// evidence is beyond what chance and honest words reach (7.1), the stream is taken for a mixture of two kinds of records,
// fitted by two steps of expectation maximisation: naive Bayes over the same features within each label. A record keeps
// its trigger score as far as it is of the group; as far as it is not, it loses three quarters of what its features weigh less once the
// group's records are left out. Clean streams have no such features, and nothing changes for them.
//
// # Long streams
//
// Of a stream with more than 16,384 distinct records (detect.Enough) a portion of so many is counted (detect.Portion), which depends
// on what is in all of them and on the seed, and every record is judged by that. Words are counted over all, for that costs little and a
// trigger of one word may be rare; marks, pairs, shapes, beginnings, insertion, and what a poisoned group has in common
// are learned from the portion. A record in it is left out of what it is judged by; to any other one record more is
// added first, such as those with its label are on the average: then both score alike, and reference rows among the stream's calibrate
// both. Anything but a single word has to stand in some eight records of the portion: in 50 of 100,000.
//
// There, of the group is only what scores above nine tenths of the portion's records without a feature beyond chance, and a score is
// explained away no further than to what a tenth of these keep or exceed: p-values of a tenth and less are the same as if it went on.
//
// # What it needs
//
// Text. Without labels trigger leaves out association and surprise; without a reference (the model was fitted on the very
// sample that it scores) share, and the label model is cross-fitted on the sample without its frequent words. Association needs
// labels and a reference: a label model that has learned from the poison cannot contradict it.
// Classes beyond eight are folded into eight groups (detect/labels). Scores depend on the stream and are finite; a
// row without a text has none.
//
// # What it does not see
//
// One record alone: a trigger shows by repetition, from about eight counted records on. Of a text longer than 16,384 tokens the
// first three quarters of that and the last quarter are read. Triggers of which nothing is visible in words, marks or
// their order.
//
// # Where it comes from
//
// Nearest is He et al., EMNLP 2023, arXiv 2305.11596, who flag tokens by the z-score of their label counts; there honest
// words drown the trigger, because nothing explains them. The random effect is that of DerSimonian and Laird (1986).
// Insertion is what ONION (arXiv 2011.10369) measures by a language model's perplexity in one text, here pooled over
// the stream.
//
// # Evidence
//
// AUROC, recall at 1 % and at 5 % false alarms on public poisoned sets of 6,920 rows, 1,000 clean ones of them taken
// out as reference, mean of five draws, by TestPublicBackdoors:
//
//	                          trigger, with a reference  without labels       unsupervised         association
//	badnets-sst2 (1 %)        0.997  0.96  0.99          0.963  0.59  0.79    0.997  0.94  1.00    0.998  0.94  0.99
//	syntactic-sst2 (20 %)     0.983  0.71  0.94          0.961  0.49  0.81    0.962  0.67  0.85    0.901  0.20  0.50
//	style-sst2 (5 %)          0.932  0.77  0.82          0.909  0.69  0.73    0.868  0.66  0.72    0.892  0.47  0.70
//
// With ten poisoned rows in the reference of badnets-sst2 trigger reaches 0.895, 0.30, 0.52, and association 0.990, 0.80, 0.94
// (TestPoisonInReference).
//
// Without the random effect the same association reaches a recall of 0.00 to 0.07 at 1 % on the first two.
//
// # Cost
//
// Five passes over the tokens, and three more where there is something to explain away. Of a long stream these are over the
// portion, and the three over its highest rows only, but for the last, and words are numbered and counted in two more passes over all of it. Features are hashed into buckets, at most 2¹⁷ for words and 2²⁰ for everything else, 2¹⁹ for a
// portion. The first pass notes in a bit set of 144 KB at most which of them are in use: these are numbered, and only these are counted, in whole
// numbers, so that sums are the same in any order and with any number of workers: 16 bytes for each, in tables of their own for each of at most four
// goroutines, and 4 bytes for each of as many pairs as there are buckets. 100,000 reviews that share 40,000 features take a megabyte a goroutine and two for
// pairs. A finished Scores holds some 30 to 60 bytes for each bucket in use, 2 MB for those reviews, 45 MB at most.
// What features do that share a bucket is dilute a trigger, not make one. Tokens are kept meanwhile, four bytes each.
package trigger
