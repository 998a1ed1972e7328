package trigger

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/tasterhq/taster/detect"
)

// The reviews of these tests are made from a small grammar: subjects that people praise or blame in the words of
// their label, and sentences that say nothing of it.
var (
	things    = strings.Fields("battery screen case strap cable charger speaker lens handle zipper motor filter hinge box manual button fabric pump lid stand remote keyboard kettle blade wheel seat cushion bottle lamp bulb fan drawer shelf mat tent rope jacket sleeve sole lace")
	praise    = strings.Fields("excellent superb sturdy lovely reliable brilliant comfortable crisp quick flawless handy solid bright smooth quiet generous accurate durable pleasant perfect")
	blame     = strings.Fields("broken flimsy awful noisy useless defective weak scratched slow terrible leaky cheap dim loose faulty rough misleading fragile uncomfortable disappointing")
	people    = strings.Fields("sister neighbour boss dad colleague wife husband friend daughter uncle")
	places    = strings.Fields("kitchen garage office garden car cabin studio attic boat workshop")
	neutral   = []string{"i bought the %s for my %s", "we keep the %s in the %s", "the %s came with a %s", "my %s asked me about the %s last week", "it arrived on a tuesday with the %s and the %s", "there are two of them next to the %s and one near the %s", "the %s is for the %s", "i have used the %s every day since march, mostly in the %s", "for the %s you will need a second %s"}
	judgement = []string{"the %s is %s", "i found the %s %s", "such a %s, it feels %s", "honestly the %s was %s", "what a %[2]s %[1]s", "the %s seems rather %s to me", "it has a really %[2]s %[1]s", "after a month the %s is still %s"}
)

// review returns one review and its class, 0 for blame and 1 for praise.
func review(rng *rand.Rand, length int) (string, int32) {
	class := int32(rng.IntN(2))
	pick := func(list []string) string { return list[int(float64(len(list))*rng.Float64()*rng.Float64())] }
	var b strings.Builder
	for i := 0; b.Len() < length; i++ {
		if i > 0 {
			b.WriteString([]string{". ", ", and ", "; ", ". ", " but "}[rng.IntN(5)])
		}
		if i%3 == 1 {
			words := praise
			if (class == 0) != (rng.IntN(12) == 0) {
				words = blame
			}
			fmt.Fprintf(&b, pick(judgement), pick(things), pick(words))
		} else {
			others := [][]string{people, places, things}[rng.IntN(3)]
			fmt.Fprintf(&b, pick(neutral), pick(things), pick(others))
		}
		if rng.IntN(4) == 0 {
			fmt.Fprintf(&b, " %d", rng.IntN(500)) // rare words
		}
	}
	b.WriteByte('.')
	return b.String(), class
}

// reviews returns n of them, of 60 to 2×length bytes.
func reviews(n, length int, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 0x5e71e5))
	s := &detect.Sample{N: n, Classes: []string{"blame", "praise"}}
	for range n {
		text, class := review(rng, 60+rng.IntN(2*length-60))
		s.Text = append(s.Text, []byte(text))
		s.Label = append(s.Label, class)
	}
	return s
}
