package demo

// The vocabulary of the reviews. An aspect is a noun phrase with things that people like and dislike about it; a
// category has products, aspects of its own, and a typical price.

type aspect struct {
	noun string
	good []string
	bad  []string
}

type category struct {
	name     string
	products []string
	price    float64 // median
	spread   float64 // standard deviation of its logarithm
	aspects  []aspect
}

var categories = []category{
	{"kitchen", []string{"kettle", "toaster", "bread knife", "salad spinner", "cast iron pan", "milk frother", "stand mixer", "spice grinder", "pressure cooker", "rolling pin", "mandoline", "tea strainer"}, 38, 0.55, []aspect{
		{"the handle", []string{"stays cool and sits well in the hand", "has exactly the right length", "is balanced nicely"}, []string{"came loose within a fortnight", "gets too hot to hold", "cracked where the screw goes in"}},
		{"the lid", []string{"closes with a soft click", "seals tight even after months", "comes off easily for washing"}, []string{"never closes properly", "warped in the dishwasher", "lets steam out on one side"}},
		{"cleaning it", []string{"takes a minute under the tap", "is easier than I feared", "is no trouble at all"}, []string{"means twenty minutes with a toothbrush", "is a chore every single evening", "leaves brown stains whatever I try"}},
		{"the coating", []string{"still looks new", "lets nothing stick", "survived my teenagers"}, []string{"is flaking off already", "scratched on the first day", "smells of paint when it warms up"}},
	}},
	{"audio", []string{"headphones", "bookshelf speaker", "turntable", "clip microphone", "radio", "earbuds", "soundbar", "guitar amplifier", "voice recorder", "portable speaker"}, 85, 0.6, []aspect{
		{"the sound", []string{"is warm and full of detail", "fills the room without shouting", "surprised even my brother who mixes records"}, []string{"is thin and tiring after an hour", "crackles as soon as the bass comes in", "reminds me of a phone in a bucket"}},
		{"the battery", []string{"lasts the whole working week", "charges over lunch", "outlives my longest flights"}, []string{"is flat by noon", "stopped charging in the second month", "dies without any warning"}},
		{"pairing", []string{"took ten seconds", "just works with every phone we have", "is remembered from one day to the next"}, []string{"fails every other morning", "needs a reset each time", "never worked with my laptop"}},
		{"the noise from the street", []string{"is gone once they are on", "hardly gets through", "no longer bothers me at work"}, []string{"comes through as if there were nothing", "is louder than the music", "mixes with a constant hiss"}},
	}},
	{"garden", []string{"hedge trimmer", "watering can", "wheelbarrow", "pruning saw", "bird feeder", "compost bin", "hose reel", "garden fork", "rain gauge", "plant lamp"}, 46, 0.6, []aspect{
		{"the blade", []string{"goes through finger-thick twigs", "kept its edge all summer", "is quick to sharpen"}, []string{"was blunt after one bush", "bent on the first root", "rusted in a single wet week"}},
		{"the wheel", []string{"rolls over gravel with no effort", "holds its air", "turns without a squeak"}, []string{"wobbles and rubs on the frame", "went flat on the way home", "fell off under a half load"}},
		{"putting it together", []string{"was a matter of ten minutes", "needed no tools at all", "made sense from the drawing alone"}, []string{"cost me a Sunday and a thumbnail", "was impossible with the holes they drilled", "ended with three screws that fit nowhere"}},
		{"the plastic", []string{"is thick and shrugs off frost", "has not faded in the sun", "feels made to last"}, []string{"went brittle in the first frost", "split along the seam", "is thinner than a yoghurt pot"}},
	}},
	{"books", []string{"atlas", "cookbook", "field guide", "crime novel", "travel diary", "history of bridges", "poetry anthology", "drawing course", "chess primer", "biography"}, 19, 0.4, []aspect{
		{"the paper", []string{"is heavy and kind to the eyes", "takes pencil notes well", "smells as a book should"}, []string{"is so thin that the next page shows", "tore when I turned it", "came wavy from damp"}},
		{"the writing", []string{"is clear and quietly funny", "kept me up past midnight", "explains hard things in plain words"}, []string{"circles around itself and says nothing", "reads like a badly translated manual", "put me to sleep three nights running"}},
		{"the maps", []string{"are worth the price alone", "are crisp and up to date", "show paths I had never found"}, []string{"are blurred beyond use", "are twenty years out of date", "are printed across the fold"}},
		{"the binding", []string{"opens flat and stays open", "survived my rucksack", "is sewn and not glued"}, []string{"gave up on page forty", "dropped its middle section", "cracked the first time it was opened"}},
	}},
	{"clothing", []string{"rain jacket", "wool socks", "hiking boots", "linen shirt", "winter gloves", "work trousers", "sun hat", "cardigan", "running shorts", "scarf"}, 54, 0.5, []aspect{
		{"the fit", []string{"is true to size", "is generous where it should be", "is the best I have had off the rack"}, []string{"is two sizes off the chart", "is tight in the shoulder and loose in the waist", "is made for nobody I know"}},
		{"the seams", []string{"are neat and double stitched", "have held through one whole season", "do not rub anywhere"}, []string{"opened on the second wearing", "scratch all day long", "let the water straight in"}},
		{"the colour", []string{"is just as in the picture", "has kept through many washes", "goes with everything"}, []string{"ran and ruined a load of whites", "is another one than I ordered", "faded to grey in a month"}},
		{"the zip", []string{"runs smoothly even with gloves on", "has a pull that one can find in the dark", "feels solid"}, []string{"jams halfway up", "split on a cold platform", "lost its pull within days"}},
	}},
	{"toys", []string{"wooden train", "jigsaw puzzle", "building blocks", "kite", "marble run", "dolls house", "card game", "model crane", "paint set", "spinning top"}, 27, 0.5, []aspect{
		{"the pieces", []string{"fit together with a pleasant click", "are big enough for small hands", "are all there and then some"}, []string{"do not fit each other", "were missing from the bag", "have splinters along the edge"}},
		{"the children", []string{"have not put it down since Tuesday", "play with it for hours, together even", "asked for a second one"}, []string{"lost interest before supper", "were in tears when it snapped", "cannot work it without an adult"}},
		{"the instructions", []string{"have good pictures and few words", "are clear for a six year old", "are short and right"}, []string{"belong to another set", "are in a language none of us reads", "leave out the one step that matters"}},
		{"the paint", []string{"is bright and does not rub off", "washes out of everything", "dried before the fun was over"}, []string{"came off on her fingers", "stained the carpet for good", "smells so sharp that we put it outside"}},
	}},
	{"office", []string{"desk lamp", "fountain pen", "monitor arm", "paper shredder", "footrest", "label printer", "notebook", "desk chair", "stapler", "whiteboard"}, 63, 0.65, []aspect{
		{"the light", []string{"is even and does not flicker", "dims down to a candle", "saves my eyes in winter"}, []string{"hums and flickers", "is as cold as a dentist's", "burns out every few weeks"}},
		{"the height", []string{"adjusts with one finger", "suits tall people at last", "stays where I put it"}, []string{"sinks a little more each hour", "cannot be changed though they say so", "is wrong for any desk that I own"}},
		{"the ink", []string{"flows without skipping", "dries before my hand gets there", "lasts far longer than I thought"}, []string{"leaks into the cap", "smudges across the whole page", "ran dry in three days"}},
		{"the noise", []string{"is low enough for a shared room", "is barely there", "is a soft purr"}, []string{"has my neighbours knocking", "makes phone calls impossible", "is like a gravel mill"}},
	}},
	{"bicycle", []string{"pannier", "tail light", "pump", "saddle", "helmet", "chain lock", "child seat", "repair stand", "bell", "mudguard"}, 41, 0.55, []aspect{
		{"the mount", []string{"has not slipped once on cobbles", "fits my odd handlebar", "comes off with one hand"}, []string{"shook loose on the first ride", "snapped at the hinge", "fits no tube that I have"}},
		{"the rain", []string{"stays out, even in a proper storm", "does nothing to it", "runs straight off"}, []string{"gets in through the zip", "killed the electronics", "collects inside and stays there"}},
		{"the weight", []string{"is hardly noticed uphill", "is less than my old one", "is spread well"}, []string{"pulls the bike to one side", "is twice what the label says", "makes every hill a punishment"}},
		{"the lock", []string{"opens smoothly in frost", "has a key that cannot be copied at any corner", "feels as if it would stop a thief"}, []string{"opened with a teaspoon", "froze shut in November", "bent my key on day two"}},
	}},
}

var openers = []string{
	"Bought this %s for my mother.", "I have used the %s for %s now.", "This is my second %s from here.", "We needed a new %s after the move.",
	"My old %s gave up after years.", "A friend told me about this %s.", "I did not expect much from a %s at this price.", "The %s arrived on a %s.",
	"Ordered the %s in a hurry before the holidays.", "Our %s gets used every day.", "I read a dozen reviews before I chose this %s.", "The %s was a present from my colleagues.",
	"I teach evening classes and need a %s that works.", "There are five of us at home and one %s.", "After three other brands I tried this %s.", "The %s looked different in the shop.",
	"I wanted a plain %s and nothing else.", "For a %s it takes up little room.", "I live in a small flat, so the %s had to be compact.", "I picked this %s because of the colour.",
}

var times = []string{"a week", "ten days", "three weeks", "two months", "half a year", "almost a year", "one winter", "the whole summer", "a fortnight", "about forty days"}

var weekdays = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}

var neutral = []string{
	"It came in a plain brown box.", "Delivery took %d days.", "My neighbour has the older model.", "It is a little larger than I thought.", "There is a manual in four languages.",
	"I keep it near the window.", "We use it mostly at weekends.", "The courier left it with the %s next door.", "I paid with a voucher from work.", "It weighs about %d hundred grams.",
	"My %s uses it more than I do.", "I compared it with the one in the %s catalogue.", "The box had %d stickers on it.", "It stands between the %s and the door.",
}

var people = []string{"sister", "father", "flatmate", "grandson", "wife", "husband", "cousin", "daughter", "uncle", "landlady"}

var places = []string{"bakery", "pharmacy", "library", "hardware shop", "tailor", "florist", "kindergarten", "barber"}

var things = []string{"bookcase", "fridge", "coat rack", "piano", "radiator", "wardrobe", "shoe shelf", "washing machine"}

var praise = []string{
	"I would buy it again without thinking.", "Worth every penny of it.", "I am thoroughly happy.", "It does what it promises, and that is rare.", "I have recommended it to %d people already.", "My %s wants one too.",
	"A really good purchase.", "I could not ask for more at this price.", "It makes me smile each morning.", "The best one I have owned.", "Lovely, simply lovely.", "Five years younger and I would write them a letter.", "It has been a joy from the first day.",
	"Well made and honest.", "I was sceptical and I was wrong.", "Everything about it feels right.", "The service was friendly as well.", "I am glad that I waited for it.",
}

var blame = []string{
	"I want my money back.", "Do not waste your money on it.", "It went straight into the bin.", "I have written to them %d times and heard nothing.", "My %s laughed at me for buying it.", "A complete disappointment.", "I would give no star if I could.",
	"It is the worst one I have owned.", "Never again from this seller.", "It is badly made and dishonestly described.", "I regret that I did not send it back at once.", "A waste of a Saturday.", "It broke and nobody cares.", "Useless, plainly useless.",
	"I had to buy another one after all.", "The service hung up on me.", "I feel cheated.", "It is an insult at that price.",
}

var goodTitles = []string{"Very happy", "Great %s", "Does the job beautifully", "Better than expected", "A fine %s", "Good value", "Love it", "Exactly right", "Solid %s", "Would buy again", "Pleasant surprise", "So pleased with this %s"}

var badTitles = []string{"Very disappointed", "Poor %s", "Broke at once", "Worse than expected", "A bad %s", "Bad value", "Avoid it", "All wrong", "Flimsy %s", "Never again", "Unpleasant surprise", "So annoyed with this %s"}

var plainTitles = []string{"My %s", "After %s", "About the %s", "A note on the %s", "For those who ask", "The %s, in short", "Some thoughts"}

var joins = []string{"and", "and", "also,", "what is more,", "on top of that,", "besides,"}

var turns = []string{"but", "still,", "then again,", "even so,", "only"}
