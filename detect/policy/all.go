package policy

import (
	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/activation"
	"github.com/tasterhq/taster/detect/collusion"
	"github.com/tasterhq/taster/detect/consistency"
	"github.com/tasterhq/taster/detect/drift"
	"github.com/tasterhq/taster/detect/drip"
	"github.com/tasterhq/taster/detect/embedding"
	"github.com/tasterhq/taster/detect/gradient"
	"github.com/tasterhq/taster/detect/labels"
	"github.com/tasterhq/taster/detect/language"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/loss"
	"github.com/tasterhq/taster/detect/nearduplicate"
	"github.com/tasterhq/taster/detect/outlier"
	"github.com/tasterhq/taster/detect/provider"
	"github.com/tasterhq/taster/detect/spectral"
	"github.com/tasterhq/taster/detect/trigger"
	"github.com/tasterhq/taster/detect/valuetrigger"
)

// All returns every detector that taster has, with default settings.
func All() []detect.Detector { return On(nil) }

// On is All with the matrix work of those that have any done by engine; nil: the CPU.
func On(engine linalg.Engine) []detect.Detector {
	return []detect.Detector{
		trigger.Detector{},
		trigger.Association{},
		labels.Detector{},
		language.Detector{},
		embedding.Detector{Engine: engine},
		nearduplicate.Detector{},
		outlier.Detector{Engine: engine},
		drip.Detector{},
		valuetrigger.Detector{},
		drift.Detector{},
		provider.Detector{},
		collusion.Detector{},
		consistency.Detector{Engine: engine},
		loss.Detector{},
		gradient.Detector{Engine: engine},
		gradient.Similarity{Engine: engine},
		spectral.Detector{Engine: engine},
		activation.Detector{Engine: engine},
	}
}
