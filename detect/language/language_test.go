package language

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/lanes"
)

var env = detect.Env{Seed: 1, Workers: 2}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, detecttest.Clean)
}

// Words of three languages. Texts are made of them as if at random: it is how words are written that tells.
var (
	english = strings.Fields("the of and to in is that it was for on are with as his they at be this from have or by one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first been its who now people my made over did down only way find use may water long little very after words called just where most know get through back much before go good new write our used me man too any day same right look think also around another came come work three word must because does part even place well such here take why things help put years different away again off went old number great tell men say small every found still between name should home big give air line set own under read last never us left end along while might next sound below saw something thought both few those always looked show large often together asked house don't world going want school important until form food keep children feet land side without boy once animals life enough took sometimes four head above kind began almost live page got earth need far hand high year mother light parts country father let night following picture being study second eyes soon times story boys since white days ever paper hard near sentence better best across during today others however sure means knew try told young miles sun ways thing whole hear example heard several change answer room sea against top turned learn point city play toward five using himself usually")
	german  = strings.Fields("der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei prozent hatte kann gegen vom können schon wenn habe seine mark ihre dann unter wir soll ich eines jahr zwei jahren diese dieser wieder keine uhr seiner worden will zwischen immer millionen was sagte gibt alle seit muss wurden beim doch jetzt waren drei jahre neue neuen damit bereits da ihr seinen müssen ab ihrer ohne sondern selbst ersten nun etwa heute ihren weil ihm seien menschen deutschland anderen werde sagt wollen geht möglich könnte")
	greek   = strings.Fields("και το να του η της με που την από για είναι τα στο ο οι στην θα τον σε τους τη των δεν ότι μια ένα αυτό αλλά κατά έχει ήταν στη όπως μας μετά μπορεί στις πολύ ως ή αν πιο σας στα μόνο όταν μου έναν πριν κάθε χρόνια σύμφωνα ακόμη μέσα πρέπει όλα τώρα κόσμο ζωή ημέρα νερό σπίτι")
)

// prose returns n texts of words, of 20 to most bytes.
func prose(words []string, n, most int, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 0x1a46))
	s := &detect.Sample{N: n}
	for range n {
		var b strings.Builder
		for length := 20 + rng.IntN(most-20); b.Len() < length; {
			if b.Len() > 0 {
				b.WriteString([]string{" ", " ", " ", " ", ", ", ". "}[rng.IntN(6)])
			}
			b.WriteString(words[int(float64(len(words))*rng.Float64()*rng.Float64())])
		}
		s.Text = append(s.Text, []byte(b.String()))
	}
	return s
}

func letters(rng *rand.Rand, alphabet string, n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(out)
}

// oddities are what texts are made into.
var oddities = map[string]func(rng *rand.Rand, text string) string{
	"another language":   func(rng *rand.Rand, text string) string { return string(prose(german, 1, 200, rng.Uint64()).Text[0]) },
	"another script":     func(rng *rand.Rand, text string) string { return string(prose(greek, 1, 200, rng.Uint64()).Text[0]) },
	"keyboard mash":      func(rng *rand.Rand, text string) string { return letters(rng, "asdfjkl;ghqwerp", 40) },
	"random letters":     func(rng *rand.Rand, text string) string { return letters(rng, "abcdefghijklmnopqrstuvwxyz     ", 60) },
	"shuffled letters":   func(rng *rand.Rand, text string) string { return shuffled(rng, text) },
	"encoded":            func(rng *rand.Rand, text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) },
	"a blob inside text": blobInside,
}

func shuffled(rng *rand.Rand, text string) string {
	b := []byte(text)
	rng.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	return string(b)
}

func blobInside(rng *rand.Rand, text string) string {
	blob := base64.StdEncoding.EncodeToString([]byte(letters(rng, "0123456789abcdefghijklmnopqrstuv", 75)))
	long := string(prose(english, 1, 2000, rng.Uint64()).Text[0])
	at := strings.IndexByte(long[len(long)/3:], ' ') + len(long)/3
	return long[:at] + " " + blob + long[at:]
}

func TestOdditiesAreFound(t *testing.T) {
	for _, reference := range []bool{true, false} {
		for name, make1 := range oddities {
			t.Run(fmt.Sprint(name, " reference=", reference), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(5, 6))
				stream := prose(english, 2000, 300, 2)
				every := 100
				if !reference {
					every = 400 // the few words of another language are soon learned
				}
				odd := make([]bool, stream.N)
				for i := range odd {
					if odd[i] = i%every == 7; odd[i] {
						stream.Text[i] = []byte(make1(rng, string(stream.Text[i])))
					}
				}
				fitted := stream
				if reference {
					fitted = prose(english, 500, 300, 1)
				}
				m, err := Detector{}.Fit(fitted, env)
				if err != nil || m == nil {
					t.Fatal("no model: ", err)
				}
				scores := m.Score(stream, env)
				var clean []float64
				for i, v := range scores.Value {
					if !odd[i] {
						clean = append(clean, v)
					}
				}
				slices.Sort(clean)
				limit, hits, all := clean[len(clean)-1-len(clean)/100], 0, 0
				for i, v := range scores.Value {
					if odd[i] {
						all++
						if v > limit {
							hits++
						}
					}
				}
				if hits*10 < all*9 {
					t.Errorf("%d of %d above all but 1 %% of the others", hits, all)
				}
			})
		}
	}
}

// Scores of short and of long clean texts must be alike, or the longest would be flagged for their length.
func TestLengthIsNoOddity(t *testing.T) {
	m, err := Detector{}.Fit(prose(english, 1000, 400, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{40, 200, 1000, 4000} {
		value := m.Score(prose(english, 1000, most, uint64(most)), env).Value
		slices.Sort(value)
		t.Logf("up to %d bytes: median %.2f, 99 %% %.2f", most, value[500], value[990])
		if value[990] > 5 {
			t.Errorf("texts of up to %d bytes: 1 %% score more than %.1f", most, value[990])
		}
	}
}

func TestReferenceLearnsItsOwn(t *testing.T) {
	// Half of the reference in Greek: neither language is odd, a third is.
	both := prose(english, 400, 300, 1).Join(prose(greek, 400, 300, 1))
	m, err := Detector{}.Fit(both, env)
	if err != nil {
		t.Fatal(err)
	}
	at99 := func(words []string, q int) float64 {
		value := m.Score(prose(words, 100, 300, 3), env).Value
		slices.Sort(value)
		return value[q]
	}
	if usual, odd := max(at99(english, 98), at99(greek, 98)), at99(german, 10); odd <= usual {
		t.Errorf("German scores %.1f, the reference's own languages up to %.1f", odd, usual)
	}
}

func TestExplain(t *testing.T) {
	m, err := Detector{}.Fit(prose(english, 500, 300, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	stream := prose(english, 3, 100, 2)
	rng := rand.New(rand.NewPCG(5, 6))
	stream.Text[1] = []byte(blobInside(rng, ""))
	scores := m.Score(stream, env)
	blob := slices.MaxFunc(strings.Fields(string(stream.Text[1])), func(a, b string) int { return len(a) - len(b) })
	if line := scores.Explain(1); !strings.Contains(blob, line[12:50]) || !strings.Contains(line, "bits a byte where") {
		t.Errorf("%q does not quote the blob", line)
	}
	stream.Text[2] = []byte(strings.Repeat("漢", 100))
	for _, row := range []int{0, 2} {
		if line := scores.Explain(row); strings.Contains(line, "\uFFFD") {
			t.Errorf("characters are cut: %q", line)
		}
	}
}

func TestTooLittleToLearn(t *testing.T) {
	if m, err := (Detector{}).Fit(prose(english, 3, 100, 1), env); m != nil || err != nil {
		t.Errorf("a model of three short texts: %v, %v", m, err)
	}
}

func TestScoringAllocatesNothingPerText(t *testing.T) {
	fitted, err := Detector{}.Fit(prose(english, 500, 300, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	m, text := fitted.(*model), prose(english, 1, 4000, 2).Text[0]
	sum, reader := 0.0, newReader()
	if n := testing.AllocsPerRun(20, func() { sum += m.usual.score(reader.read(m.whole, text), len(text)) }); n > 0 {
		t.Errorf("%v allocations per text", n)
	}
	if math.IsNaN(sum) {
		t.Error("no score")
	}
}

func BenchmarkScore(b *testing.B) {
	for _, rows := range []int{1_000, 10_000} {
		m, err := Detector{}.Fit(prose(english, rows, 780, 1), env)
		if err != nil {
			b.Fatal(err)
		}
		const n = 20_000
		stream := prose(english, n, 780, 2)
		bytes := 0
		for _, text := range stream.Text {
			bytes += len(text)
		}
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("reference=%d/workers=%d", rows, workers), func(b *testing.B) {
				b.SetBytes(int64(bytes))
				b.ReportAllocs()
				for b.Loop() {
					m.Score(stream, detect.Env{Workers: workers})
				}
				b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(bytes)/n, "bytes/record")
			})
		}
	}
}

func BenchmarkFit(b *testing.B) {
	for _, rows := range []int{1_000, 10_000} {
		reference := prose(english, rows, 780, 1)
		b.Run(fmt.Sprint("reference=", rows), func(b *testing.B) {
			for b.Loop() {
				if _, err := (Detector{}).Fit(reference, env); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Lanes read as the portable loop does, texts of any bytes and any length.
func TestLanesReadAlike(t *testing.T) {
	fitted, err := Detector{}.Fit(prose(english, 100, 300, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	m := fitted.(*model)
	rng := rand.New(rand.NewPCG(3, 4))
	best, portable := newReader(), new(reader)
	known := []byte(strings.Join(english, " ") + " 1234\t\r\n")
	for trial := range 2000 {
		text := make([]byte, 1+rng.IntN(1+rng.IntN(400)))
		switch {
		case trial < 8: // around where lanes stop to begin anew
			text = make([]byte, (1+trial/4)*lanes.Most-1+trial%4)
		case trial%50 == 0:
			text = make([]byte, rng.IntN(3*lanes.Most)+1)
		}
		from := rng.IntN(len(known))
		for i := range text {
			if text[i] = known[(from+i)%len(known)]; rng.IntN(1+trial%7*20) == 1 {
				text[i] = byte(rng.IntN(256))
			}
		}
		for _, g := range []*grams{m.whole, m.halves.Get(detect.Env{})[0]} {
			if got, want := best.read(g, text), portable.read(g, text); got != want {
				t.Fatalf("%d bytes are read as %+v, want %+v", len(text), got, want)
			}
		}
	}
}
