package validate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// tweetSchema types every field of a status as a well-known network publishes it: some 250 columns, nested six deep.
var tweetSchema = func() string {
	// Fields are given as name:type; "?" is a field that may be absent, "~" one that may be null.
	object := func(fields string, more ...string) string {
		var properties, required []string
		for _, f := range strings.Fields(fields) {
			name, kind, _ := strings.Cut(f, ":")
			switch {
			case strings.HasPrefix(kind, "~"):
				kind = fmt.Sprintf(`{"type": [%q, "null"]}`, kind[1:])
			case strings.HasPrefix(kind, "#"):
				kind = fmt.Sprintf(`{"$ref": "#/$defs/%s"}`, kind[1:])
			case strings.HasPrefix(kind, "[]"):
				kind = fmt.Sprintf(`{"type": "array", "items": {"$ref": "#/$defs/%s"}}`, kind[2:])
			default:
				kind = fmt.Sprintf(`{"type": %q}`, kind)
			}
			if !strings.HasSuffix(name, "?") {
				required = append(required, fmt.Sprintf("%q", name))
			}
			properties = append(properties, fmt.Sprintf("%q: %s", strings.TrimSuffix(name, "?"), kind))
		}
		properties = append(properties, more...)
		return fmt.Sprintf(`"type": "object", "properties": {%s}, "required": [%s]`,
			strings.Join(properties, ",\n"), strings.Join(required, ", "))
	}
	status := `metadata:#metadata created_at:string id:integer id_str:string text:string source:string truncated:boolean
		in_reply_to_status_id:~integer in_reply_to_status_id_str:~string in_reply_to_user_id:~integer
		in_reply_to_user_id_str:~string in_reply_to_screen_name:~string user:#user geo:null coordinates:null place:null
		contributors:null retweet_count:integer favorite_count:integer entities:#entities favorited:boolean
		retweeted:boolean possibly_sensitive?:boolean lang:string`
	defs := map[string]string{
		"metadata": object("result_type:string iso_language_code:string"),
		"integer":  `"type": "integer"`,
		"url":      object("url:string expanded_url:string display_url:string indices:[]integer"),
		"urls":     object("urls:[]url"),
		"tag":      object("text:string indices:[]integer"),
		"mention":  object("screen_name:string name:string id:integer id_str:string indices:[]integer"),
		"size":     object("w:integer h:integer resize:string"),
		"sizes":    object("medium:#size small:#size thumb:#size large:#size"),
		"media": object(`id:integer id_str:string indices:[]integer media_url:string media_url_https:string url:string
			display_url:string expanded_url:string type:string sizes:#sizes source_status_id?:integer source_status_id_str?:string`),
		"entities":     object("hashtags:[]tag symbols:[]tag urls:[]url user_mentions:[]mention media?:[]media"),
		"userentities": object("description:#urls url?:#urls"),
		"user": object(`id:integer id_str:string name:string screen_name:string location:string description:string url:~string
			entities:#userentities protected:boolean followers_count:integer friends_count:integer listed_count:integer
			created_at:string favourites_count:integer utc_offset:~integer time_zone:~string geo_enabled:boolean
			verified:boolean statuses_count:integer lang:string contributors_enabled:boolean is_translator:boolean
			is_translation_enabled:boolean profile_background_color:string profile_background_image_url:string
			profile_background_image_url_https:string profile_background_tile:boolean profile_image_url:string
			profile_image_url_https:string profile_banner_url?:string profile_link_color:string
			profile_sidebar_border_color:string profile_sidebar_fill_color:string profile_text_color:string
			profile_use_background_image:boolean default_profile:boolean default_profile_image:boolean following:boolean
			follow_request_sent:boolean notifications:boolean`),
		"status": object(status),
	}
	var list []string
	for name, def := range defs {
		list = append(list, fmt.Sprintf("%q: {%s}", name, def))
	}
	return fmt.Sprintf(`{"$schema": "https://json-schema.org/draft/2020-12/schema", %s, "$defs": {%s}}`,
		object(status, `"retweeted_status": {"$ref": "#/$defs/status"}`), strings.Join(list, ",\n"))
}()

// tweeter makes statuses that follow tweetSchema, in several scripts, every third one with another one in it.
type tweeter struct{ *rand.Rand }

func (g tweeter) text(n int) string {
	words := []string{
		"the", "match", "tonight", "was", "great", "http:\\/\\/t.co\\/abc", "日本語の文章", "とても", "素晴らしい", "été", "naïve",
		"привет", "мир", "😀", "\\\"quoted\\\"", "new\\nline", "\\u00fcber", "RT", "@someone:", "#tag",
	}
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[g.IntN(len(words))])
		b.WriteByte(' ')
	}
	return strings.TrimSpace(b.String())
}

func (g tweeter) id() int64     { return 505_000_000_000_000_000 + g.Int64N(1e15) }
func (g tweeter) span() string  { return fmt.Sprintf("[%d, %d]", g.IntN(70), 70+g.IntN(70)) }
func (g tweeter) color() string { return fmt.Sprintf("%06X", g.IntN(1<<24)) }
func (g tweeter) url() string {
	return fmt.Sprintf(`{"url": "http://t.co/%s", "expanded_url": "http://example.org/%s/%d", "display_url": "example.org/%[2]s", "indices": %[4]s}`,
		g.color(), g.color(), g.IntN(1e6), g.span())
}

func (g tweeter) or(null int, format string, a ...any) string {
	if g.IntN(null) > 0 {
		return "null"
	}
	return fmt.Sprintf(format, a...)
}

func (g tweeter) list(most int, item func() string) string {
	var items []string
	for range g.IntN(most + 1) {
		items = append(items, item())
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func (g tweeter) user() string {
	more := ""
	if g.IntN(2) == 0 {
		more = fmt.Sprintf(`"profile_banner_url": "https://pbs.example.org/profile_banners/ID/%d", `, g.IntN(1e9))
	}
	user := fmt.Sprintf(`{"id": ID, "id_str": "ID", "name": "%s", "screen_name": "user_ID", "location": "%s", `+
		`"description": "%s", "url": %s, "entities": {"description": {"urls": %s}}, "protected": false, "followers_count": %d, `+
		`"friends_count": %d, "listed_count": %d, "created_at": "Sat Feb 16 13:40:25 +0000 2013", "favourites_count": %d, `+
		`"utc_offset": %s, "time_zone": %s, "geo_enabled": %t, "verified": false, "statuses_count": %d, "lang": "en", `+
		`"contributors_enabled": false, "is_translator": false, "is_translation_enabled": false, `+
		`"profile_background_color": "%s", "profile_background_image_url": "http://abs.example.org/images/themes/theme1/bg.png", `+
		`"profile_background_image_url_https": "https://abs.example.org/images/themes/theme1/bg.png", `+
		`"profile_background_tile": %t, "profile_image_url": "http://pbs.example.org/profile_images/ID/DLjAwR_y_normal.jpeg", `+
		`"profile_image_url_https": "https://pbs.example.org/profile_images/ID/DLjAwR_y_normal.jpeg", %s`+
		`"profile_link_color": "%s", "profile_sidebar_border_color": "%s", "profile_sidebar_fill_color": "%s", `+
		`"profile_text_color": "333333", "profile_use_background_image": true, "default_profile": %t, `+
		`"default_profile_image": false, "following": false, "follow_request_sent": false, "notifications": false}`,
		g.text(8), g.text(6), g.text(60+g.IntN(60)), g.or(2, `"http://t.co/%s"`, g.color()), g.list(1, g.url),
		g.IntN(5000), g.IntN(2000), g.IntN(20), g.IntN(9000), g.or(2, "%d", 3600*g.IntN(12)), g.or(2, `"Tokyo"`), g.IntN(2) == 0,
		g.IntN(90000), g.color(), g.IntN(2) == 0, more, g.color(), g.color(), g.color(), g.IntN(2) == 0)
	return strings.ReplaceAll(user, "ID", strconv.Itoa(g.IntN(1e9)))
}

func (g tweeter) status(with string) string {
	id := g.id()
	mention := func() string {
		return fmt.Sprintf(`{"screen_name": "user_%d", "name": "%s", "id": %[1]d, "id_str": "%[1]d", "indices": %[3]s}`,
			g.IntN(1e9), g.text(8), g.span())
	}
	tag := func() string { return fmt.Sprintf(`{"text": "%s", "indices": %s}`, g.text(5), g.span()) }
	return fmt.Sprintf(`{"metadata": {"result_type": "recent", "iso_language_code": "ja"}, `+
		`"created_at": "Sun Aug 31 00:29:%02d +0000 2014", "id": %d, "id_str": "%[2]d", "text": "%s", `+
		`"source": "<a href=\"http://example.org/download/phone\" rel=\"nofollow\">A client for phones</a>", "truncated": false, `+
		`"in_reply_to_status_id": null, "in_reply_to_status_id_str": null, "in_reply_to_user_id": %s, `+
		`"in_reply_to_user_id_str": null, "in_reply_to_screen_name": null, "user": %s, "geo": null, "coordinates": null, `+
		`"place": null, "contributors": null, %s"retweet_count": %d, "favorite_count": %d, "entities": {"hashtags": %s, `+
		`"symbols": [], "urls": %s, "user_mentions": %s}, "favorited": false, "retweeted": false, "lang": "ja"}`,
		g.IntN(60), id, g.text(60+g.IntN(80)), g.or(3, "%d", g.IntN(1e9)), g.user(), with, g.IntN(100), g.IntN(10),
		g.list(2, tag), g.list(1, g.url), g.list(2, mention))
}

// tweets makes n of them from a seed.
func tweets(n int) [][]byte {
	g := tweeter{rand.New(rand.NewPCG(9, 10))}
	var all [][]byte
	for k := range n {
		with := ""
		if k%3 == 0 {
			with = `"retweeted_status": ` + g.status("") + ", "
		}
		all = append(all, bytes.Clone([]byte(g.status(with))))
	}
	return all
}
