package config

import (
	"strings"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

func TestRetention(t *testing.T) {
	rules := "retention:\n  quarantined: {default: 180d, restricted: 36h}\n  rejected: 30d\n"
	c, faults := Load(folder(t, small+rules))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, test := range []struct {
		verdict finding.Verdict
		class   record.Classification
		kept    time.Duration
		rule    string
	}{
		{finding.Accepted, record.Restricted, 0, ""},
		{finding.Quarantined, record.Internal, 180 * day, "retention.quarantined.default 180d"},
		{finding.Quarantined, record.Restricted, 36 * time.Hour, "retention.quarantined.restricted 36h0m0s"},
		{finding.Rejected, record.Public, 30 * day, "retention.rejected.default 30d"},
	} {
		if kept, rule := c.Retention.Rule(test.verdict, test.class); kept != test.kept || rule != test.rule {
			t.Errorf("%s, %s: %s by %q", test.verdict, test.class, kept, rule)
		}
	}
	plain, _ := Load(folder(t, small))
	if kept, _ := plain.Retention.Rule(finding.Rejected, record.Public); kept != 0 {
		t.Errorf("without a rule rows are kept for %s", kept)
	}
	if plain.Digest() == c.Digest() {
		t.Error("the digest does not tell rules of retention")
	}
	_, faults = Load(folder(t, small+"retention: {acepted: 1d, rejected: 30 days, quarantined: {internal: 0d, default: 40000d, confidentiel: 1d}}\n"))
	var text strings.Builder
	for _, f := range faults {
		text.WriteString(f.Error() + "\n")
	}
	for _, want := range []string{
		`unknown key "acepted"; the nearest known key is "accepted"`, `"30 days" is not a time span such as 365d or 12h`,
		`"0d" is not from 1s to 36500d`, `"40000d" is not from 1s to 36500d`, `unknown key "confidentiel"; the nearest known key is "confidential"`,
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s is not told:\n%s", want, text.String())
		}
	}
}
