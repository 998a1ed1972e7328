package finding

// Code is a stable reason code: lower-case words joined by underscores.
type Code string

// Limits and decoding. A record with one of these is rejected.
const (
	JSONTruncated    Code = "json_truncated"
	JSONTrailing     Code = "json_trailing"
	JSONSyntax       Code = "json_syntax"
	JSONDuplicateKey Code = "json_duplicate_key"
	JSONSurrogate    Code = "json_surrogate"
	UTF8Invalid      Code = "utf8_invalid"
	NumberRange      Code = "number_range"
	TooLarge         Code = "too_large"
	TooDeep          Code = "too_deep"
	Empty            Code = "empty"
	Tombstone        Code = "tombstone"
	RowMalformed     Code = "row_malformed"
	ProviderMissing  Code = "provider_missing"
)

// The contract's schema. A record with one of these is rejected.
const (
	SchemaType        Code = "schema_type"
	SchemaRequired    Code = "schema_required"
	SchemaAdditional  Code = "schema_additional"
	SchemaEnum        Code = "schema_enum"
	SchemaConst       Code = "schema_const"
	SchemaRange       Code = "schema_range"
	SchemaMultipleOf  Code = "schema_multiple_of"
	SchemaLength      Code = "schema_length"
	SchemaPattern     Code = "schema_pattern"
	SchemaFormat      Code = "schema_format"
	SchemaItems       Code = "schema_items"
	SchemaUnique      Code = "schema_unique"
	SchemaProperties  Code = "schema_properties"
	SchemaDependency  Code = "schema_dependency"
	SchemaCombination Code = "schema_combination"
	SchemaContent     Code = "schema_content"
	SchemaOther       Code = "schema_other"
	VectorLength      Code = "vector_length"
	VectorValue       Code = "vector_value"
)

// Sanitising. PIIRejected rejects; the others only mark or quarantine.
const (
	PIIRejected   Code = "pii_rejected"
	HiddenUnicode Code = "hidden_unicode"
)

// Detection. A record with one of these is quarantined.
const (
	PoisonTrigger       Code = "poison_trigger"
	PoisonOutlier       Code = "poison_outlier"
	PoisonEmbedding     Code = "poison_embedding"
	PoisonNearDuplicate Code = "poison_near_duplicate"
	PoisonLabel         Code = "poison_label"
	PoisonSpectral      Code = "poison_spectral"
	PoisonCluster       Code = "poison_cluster"
	PoisonLoss          Code = "poison_loss"
	PoisonGradient      Code = "poison_gradient"
	PoisonLanguage      Code = "poison_language"
	PoisonDrift         Code = "poison_drift"
	PoisonProvider      Code = "poison_provider"
	PoisonCombined      Code = "poison_combined"
)

// Meaning describes a code for a person.
type Meaning struct {
	Code    Code
	Verdict Verdict // the verdict that a record with this code gets
	Text    string
}

// Meanings lists every code there is, in the order in which docs/reason-codes.md shows them.
var Meanings = []Meaning{
	{JSONTruncated, Rejected, "the JSON text ends before the value is complete"},
	{JSONTrailing, Rejected, "bytes other than white space follow the JSON value"},
	{JSONSyntax, Rejected, "not JSON (RFC 8259); NaN, Infinity, comments and trailing commas are not JSON either"},
	{JSONDuplicateKey, Rejected, "an object names the same member twice"},
	{JSONSurrogate, Rejected, "an escape stands for half of a surrogate pair"},
	{UTF8Invalid, Rejected, "the bytes are not UTF-8"},
	{NumberRange, Rejected, "a number does not fit its column: an integer outside 64 bits, or a number beyond a finite double"},
	{TooLarge, Rejected, "the record is larger than limits.bytes"},
	{TooDeep, Rejected, "arrays and objects are nested deeper than limits.depth"},
	{Empty, Rejected, "the record has no bytes, or only white space"},
	{Tombstone, Rejected, "the record has a null value, which Kafka uses to delete a key"},
	{RowMalformed, Rejected, "a row of a CSV or TSV file has the wrong number of fields or a broken quote"},
	{ProviderMissing, Rejected, "the contract names where the provider stands, and the record has none there"},
	{SchemaType, Rejected, "a value has another type than the schema wants"},
	{SchemaRequired, Rejected, "a required field is missing"},
	{SchemaAdditional, Rejected, "a field that the schema does not allow"},
	{SchemaEnum, Rejected, "a value is not one of those that the schema lists"},
	{SchemaConst, Rejected, "a value is not the one that the schema demands"},
	{SchemaRange, Rejected, "a number is outside minimum, maximum or their exclusive kin"},
	{SchemaMultipleOf, Rejected, "a number is not a multiple of multipleOf"},
	{SchemaLength, Rejected, "a string is shorter than minLength or longer than maxLength"},
	{SchemaPattern, Rejected, "a string does not match pattern"},
	{SchemaFormat, Rejected, "a string is not of the format that the schema demands"},
	{SchemaItems, Rejected, "an array breaks minItems, maxItems, contains or its kin"},
	{SchemaUnique, Rejected, "an array repeats an item though uniqueItems forbids it"},
	{SchemaProperties, Rejected, "an object breaks minProperties, maxProperties or propertyNames"},
	{SchemaDependency, Rejected, "a field is present without the one that it depends on"},
	{SchemaCombination, Rejected, "allOf, anyOf, oneOf, not or if/then/else is not satisfied"},
	{SchemaContent, Rejected, "a string breaks contentEncoding or contentMediaType"},
	{SchemaOther, Rejected, "another keyword of the schema is not satisfied"},
	{VectorLength, Rejected, "a vector has another length than its column"},
	{VectorValue, Rejected, "a vector holds null, or a number beyond the range of its column"},
	{PIIRejected, Rejected, "the record holds personal data that the contract refuses"},
	{HiddenUnicode, Accepted, "invisible or direction-changing characters were removed from a field"},
	{PoisonTrigger, Quarantined, "a phrase or sentence shape drags a label along, or is far more common than in the reference"},
	{PoisonOutlier, Quarantined, "numeric features lie far outside what is normal"},
	{PoisonEmbedding, Quarantined, "the embedding lies far from everything that is known to be good"},
	{PoisonNearDuplicate, Quarantined, "one of many nearly equal records"},
	{PoisonLabel, Quarantined, "the label contradicts what the rest of the record says"},
	{PoisonSpectral, Quarantined, "the embedding leans far along a direction that few records of its class share"},
	{PoisonCluster, Quarantined, "the embedding belongs to a small cluster apart from the rest of its class"},
	{PoisonLoss, Quarantined, "the model's loss on the record is far higher or lower than on its like"},
	{PoisonGradient, Quarantined, "the gradient opposes its class, is too large, or is too much like the provider's others"},
	{PoisonLanguage, Quarantined, "the text is not of the language that the reference is written in, or of none"},
	{PoisonDrift, Quarantined, "the provider's records are moving away from the reference, and this one is far along"},
	{PoisonProvider, Quarantined, "the provider's records are suspicious far more often than others', or crowd together with those of other new providers"},
	{PoisonCombined, Quarantined, "no detector alone is sure, all of them together are"},
}
