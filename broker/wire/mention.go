package wire

import (
	"regexp"
	"slices"
	"strings"
)

var mention = regexp.MustCompile(`(?:^|[^\pL\pN@])@([\pL\pN][\pL\pN._-]*)`)

// MentionsIn returns the distinct @names of a text, lower-cased.
func MentionsIn(text string) (names []string) {
	for _, match := range mention.FindAllStringSubmatch(text, 4*MaxMentions) {
		name := strings.TrimRight(strings.ToLower(match[1]), "._-")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
