package policy

import (
	"context"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/schema/record"
)

// JudgeSample decides on rows that are laid out already, such as a reference's, by what is in them alone.
func (s *Scorer) JudgeSample(ctx context.Context, sample *detect.Sample) (*record.Decision, error) {
	decision, _, err := s.judge(ctx, sample, nil)
	return decision, err
}
