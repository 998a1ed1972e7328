//go:build torture

package app

import (
	"context"

	"github.com/tasterhq/taster/cmd/internal/app/pipeline"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// tortured has every segment recall a record, which takes thousands of records otherwise: what becomes of recalls under
// torture does not depend on why they are made.
func tortured(s pipeline.Scorer) pipeline.Scorer { return recalling{s} }

type recalling struct{ pipeline.Scorer }

func (r recalling) Score(ctx context.Context, segment *record.Segment, known record.Memory) (*record.Decision, error) {
	d, err := r.Scorer.Score(ctx, segment, known)
	if err != nil {
		return d, err
	}
	row := 0
	for _, b := range segment.Batches {
		for _, origin := range b.Origins {
			if d.Verdicts[row] == finding.Accepted {
				d.Recalls = append(d.Recalls, record.Recall{Source: segment.Source, Offset: origin.Offset, Code: finding.PoisonTrigger, Finding: finding.Finding{Detector: "torture"}})
				return d, nil
			}
			row++
		}
	}
	return d, nil
}
