package app

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/landing"
)

// Tidied is what Tidy did, or would do; its JSON form is public.
type Tidied struct {
	DryRun          bool     `json:"dry_run"`
	Retained        Retained `json:"retention"`  // whose time is over; they count no longer from now on
	Superseded      Deleted  `json:"superseded"` // that had counted no longer for the grace period
	States          Deleted  `json:"states"`     // that newer ones have taken the place of
	Orphans         Deleted  `json:"orphans"`    // that never counted
	WithoutContract []string `json:"without_contract"`
}

// Retained counts files that a rule of retention has removed.
type Retained struct {
	Files int   `json:"files"`
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
}

// Tidy applies the rules of retention, and deletes the files that have ceased to count before the grace period and
// those that never counted. With dry it tells what it would do, and changes nothing.
//
// The classification of a topic is that of its contract. Topics without one are left alone, and named.
func (a *App) Tidy(ctx context.Context, grace time.Duration, dry bool) (*Tidied, error) {
	report := &Tidied{DryRun: dry, WithoutContract: []string{}}
	err := a.each(ctx, nil, func(source record.Source) error {
		rules := map[finding.Verdict]landing.Rule{}
		c, unknown := a.config.Contract(source.Topic)
		if unknown != nil {
			if len(a.config.Retention) > 0 && !slices.Contains(report.WithoutContract, source.Topic) {
				report.WithoutContract = append(report.WithoutContract, source.Topic)
			}
		} else {
			for _, v := range finding.Verdicts {
				if kept, rule := a.config.Retention.Rule(v, c.Classification); kept > 0 {
					rules[v] = landing.Rule{Age: kept, Text: rule}
				}
			}
		}
		var err error
		if len(rules) > 0 {
			var done landing.Retained
			done, err = a.zone.Retain(ctx, source, rules, dry)
			report.Retained = Retained{report.Retained.Files + done.Files, report.Retained.Rows + done.Rows, report.Retained.Bytes + done.Bytes}
		}
		if !dry {
			err = errors.Join(err, a.enterChanges(ctx, source))
		}
		return err
	})
	var faults [3]error
	report.Superseded, faults[0] = a.retire(ctx, nil, grace, dry)
	report.States, faults[1] = a.delete(ctx, a.zone.OldStates(ctx), dry)
	faults[1] = errors.Join(faults[1], a.enterDeleted(ctx, "states", "newer ones were committed", report.States, faults[1], dry))
	report.Orphans, faults[2] = a.delete(ctx, a.zone.Orphans(ctx), dry)
	faults[2] = errors.Join(faults[2], a.enterDeleted(ctx, "orphans", "never committed", report.Orphans, faults[2], dry))
	return report, errors.Join(err, faults[0], faults[1], faults[2])
}
