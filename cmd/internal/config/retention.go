package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// Retention says for how long rows are kept, by their verdict and by the classification of their topic. What no rule
// names is kept for ever.
type Retention map[string]map[string]time.Duration

// The classification of a rule for all those that have no rule of their own.
const anyClass = "default"

// The shortest and the longest time that a rule may ask for.
const (
	leastKept = time.Second
	mostKept  = 100 * 365 * day
	day       = 24 * time.Hour
)

// Rule returns for how long rows are kept and the rule that says so; 0 for ever.
func (r Retention) Rule(v finding.Verdict, class record.Classification) (time.Duration, string) {
	byClass := r[v.String()]
	for _, name := range []string{class.String(), anyClass} {
		if kept, ok := byClass[name]; ok {
			return kept, fmt.Sprintf("retention.%s.%s %s", v, name, days(kept))
		}
	}
	return 0, ""
}

// retention reads VERDICT: TIME or VERDICT: {CLASSIFICATION: TIME}.
func (r *reader) retention(v strict.Value) {
	if !v.Present() {
		return
	}
	var verdicts, classes []string
	for _, verdict := range finding.Verdicts {
		verdicts = append(verdicts, verdict.String())
	}
	for class := record.Public; class <= record.Restricted; class++ {
		classes = append(classes, class.String())
	}
	m := v.Mapping(verdicts...)
	r.config.Retention = Retention{}
	for _, verdict := range verdicts {
		at := m.At(verdict)
		if !at.Present() {
			continue
		}
		rules := map[string]time.Duration{}
		if !at.IsMapping() {
			rules[anyClass] = kept(at)
		} else {
			byClass := at.Mapping(append(classes, anyClass)...)
			for _, class := range append(classes, anyClass) {
				if one := byClass.At(class); one.Present() {
					rules[class] = kept(one)
				}
			}
		}
		r.config.Retention[verdict] = rules
	}
}

// kept reads a time span, in days or as other time spans are written.
func kept(v strict.Value) time.Duration {
	text := v.Text()
	if text == "" {
		return 0
	}
	if number, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(number, 10, 32); err == nil {
			text = strconv.FormatUint(n*24, 10) + "h"
		}
	}
	span, err := time.ParseDuration(text)
	switch {
	case err != nil:
		v.Fault(strict.BadValue, "%s is not a time span such as 365d or 12h", v.Shown())
	case span < leastKept || span > mostKept:
		v.Fault(strict.BadValue, "%s is not from %s to %s", v.Shown(), leastKept, days(mostKept))
	}
	return span
}

// days writes a time span as configurations do.
func days(span time.Duration) string {
	if span%day == 0 {
		return strconv.FormatInt(int64(span/day), 10) + "d"
	}
	return span.String()
}
