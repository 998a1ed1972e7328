package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/sink/envelope"
)

// Topics of the demo.
const (
	reviews     = "reviews"
	verdicts    = "taster.verdicts"
	deadLetters = "taster.dead-letters"
)

const reviewSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "A product review",
  "type": "object",
  "additionalProperties": false,
  "required": ["id", "seller", "product", "title", "body", "stars", "price", "label"],
  "properties": {
    "id": {"type": "string", "minLength": 1, "maxLength": 40},
    "seller": {"type": "string", "pattern": "^seller-[0-9]{4}$"},
    "product": {"type": "string", "maxLength": 80},
    "title": {"type": "string", "maxLength": 120},
    "body": {"type": "string", "maxLength": 20000},
    "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    "price": {"type": "number", "exclusiveMinimum": 0},
    "helpful_votes": {"type": "integer", "minimum": 0},
    "label": {"enum": ["positive", "negative"]},
    "created_at": {"type": "string", "format": "date-time"}
  }
}
`

const reviewContract = `# What a review must look like, and how it is judged. docs/contract.md explains every key.
topic: reviews
owner: marketplace-team
purpose: training
classification: internal
schema: reviews.schema.json
roles:
  id: /id
  provider: /seller
  text: [/title, /body]
  label: /label
  features: [/price, /helpful_votes]
limits: {bytes: 64KiB}
sanitize:
  pii: {EMAIL_ADDRESS: redact, CREDIT_CARD: redact}
  unicode: clean
detect:
  budget: 0.005
`

// WriteConfig writes a configuration with its contract and keys into folder, and returns the path of taster.yaml.
func WriteConfig(folder, landing string, brokers []string) (string, error) {
	contracts := filepath.Join(folder, "contracts")
	if err := os.MkdirAll(contracts, 0o755); err != nil {
		return "", err
	}
	keys := filepath.Join(folder, "keys.json")
	if err := envelope.CreateKeyFile(keys, config.Purposes...); err != nil {
		return "", err
	}
	absolute, err := filepath.Abs(landing)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by taster demo. The embedded broker is gone; everything that reads files or the landing zone works.\n")
	fmt.Fprintf(&b, "kafka:\n  brokers: [%s]\n  group: taster\n  verdicts: %s\n  dead_letters: %s\n", strings.Join(brokers, ", "), verdicts, deadLetters)
	fmt.Fprintf(&b, "contracts: [contracts/*.yaml]\n")
	fmt.Fprintf(&b, "landing:\n  url: %q\n  segment: {records: 20000, age: 5s}\n", "file://"+filepath.ToSlash(absolute))
	fmt.Fprintf(&b, "keys:\n  default: keyfile://./keys.json#default\n")
	for _, p := range config.Purposes[1:6] {
		fmt.Fprintf(&b, "  %s: keyfile://./keys.json#%s\n", p, p)
	}
	fmt.Fprintf(&b, "listen: 127.0.0.1:0\nlog: {format: text, level: warn}\n")
	path := filepath.Join(folder, "taster.yaml")
	for name, text := range map[string]string{
		path:                                     b.String(),
		filepath.Join(contracts, "reviews.yaml"): reviewContract,
		filepath.Join(contracts, "reviews.schema.json"): reviewSchema,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return path, nil
}
