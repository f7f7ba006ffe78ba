package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// document is a JSON file in which single entries are put and removed: everything
// else stays as it is, to the byte.
type document struct {
	root   hujson.Value
	indent string // of one level
}

// parse reads a document; an empty one is an empty object. strict refuses comments
// and trailing commas, for clients that take them for damage.
func parse(content []byte, strict bool) (*document, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		content = []byte("{}\n")
	}
	if strict && !json.Valid(content) {
		return nil, fmt.Errorf("it is no valid JSON: %w", json.Unmarshal(content, new(any)))
	}
	root, err := hujson.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("it is no valid JSON: %w", err)
	}
	if _, ok := root.Value.(*hujson.Object); !ok {
		return nil, fmt.Errorf("it is no JSON object")
	}
	if err := checkKeys(root.Value.(*hujson.Object)); err != nil {
		return nil, err
	}
	d := &document{root: root, indent: indent}
	if match := firstIndent.FindSubmatch(content); match != nil {
		d.indent = string(match[1])
	}
	return d, nil
}

// checkKeys refuses keys that stand there twice: nobody knows which of them counts.
func checkKeys(object *hujson.Object) error {
	seen := map[string]bool{}
	for _, member := range object.Members {
		key := member.Name.Value.(hujson.Literal).String()
		if seen[key] {
			return fmt.Errorf("the key %q stands in it twice", key)
		}
		seen[key] = true
	}
	return nil
}

// firstIndent is what stands before the first entry on a line of its own.
var firstIndent = regexp.MustCompile(`^\s*\{[^\n]*\n([ \t]+)\S`)

func (d *document) bytes() []byte { return d.root.Pack() }

// get returns what stands at a path of keys, nil if there is nothing.
func (d *document) get(path ...string) *hujson.Value {
	return d.root.Find("/" + strings.Join(path, "/"))
}

// put sets what stands at a path of keys; objects on the way are made.
func (d *document) put(value any, path ...string) error {
	at := &d.root
	for depth, key := range path {
		object, ok := at.Value.(*hujson.Object)
		if !ok {
			return fmt.Errorf("%q in it is no object", strings.Join(path[:depth], "."))
		}
		member := find(object, key)
		if member == nil {
			d.add(object, key, depth+1)
			member = find(object, key)
		}
		at = &member.Value
		if depth == len(path)-1 {
			at.Value = d.pretty(value, depth+1)
		}
	}
	return nil
}

// remove takes out what stands at a path of keys.
func (d *document) remove(path ...string) {
	parent := d.get(path[:len(path)-1]...)
	if len(path) == 1 {
		parent = &d.root
	}
	if parent == nil {
		return
	}
	object, ok := parent.Value.(*hujson.Object)
	if !ok {
		return
	}
	for i := range object.Members {
		if object.Members[i].Name.Value.(hujson.Literal).String() != path[len(path)-1] {
			continue
		}
		// Comments before it may belong to what was before: they stay.
		comments := hujson.Extra(strings.TrimRight(string(object.Members[i].Name.BeforeExtra), " \t\r\n"))
		if i == len(object.Members)-1 {
			object.AfterExtra = append(comments, object.AfterExtra...)
			if i > 0 && !strings.Contains(string(object.AfterExtra), "\n") {
				object.AfterExtra = append(hujson.Extra("\n"), object.AfterExtra...)
			}
		} else {
			next := &object.Members[i+1].Name
			next.BeforeExtra = append(comments, next.BeforeExtra...)
		}
		object.Members = append(object.Members[:i], object.Members[i+1:]...)
		return
	}
}

// appendTo adds an element to the array at a path of keys, which is made if need be.
func (d *document) appendTo(value any, path ...string) error {
	if d.get(path...) == nil {
		return d.put([]any{value}, path...)
	}
	array, ok := d.get(path...).Value.(*hujson.Array)
	if !ok {
		return fmt.Errorf("%q in it is no list", strings.Join(path, "."))
	}
	depth := len(path) + 1
	before, after := d.space(array.AfterExtra, depth)
	array.Elements = append(array.Elements, hujson.Value{BeforeExtra: before, Value: d.pretty(value, depth)})
	array.AfterExtra = after
	return nil
}

// removeElement takes an element out of an array. Comments around it may belong to
// others: they stay.
func removeElement(array *hujson.Array, i int) {
	gone := array.Elements[i]
	comments := hujson.Extra(strings.TrimRight(string(gone.BeforeExtra), " \t\r\n"))
	if i == len(array.Elements)-1 {
		array.AfterExtra = append(comments, array.AfterExtra...)
	} else {
		next := &array.Elements[i+1]
		next.BeforeExtra = append(comments, next.BeforeExtra...)
	}
	array.Elements = slices.Delete(array.Elements, i, i+1)
}

func find(object *hujson.Object, key string) *hujson.ObjectMember {
	for i := range object.Members {
		if object.Members[i].Name.Value.(hujson.Literal).String() == key {
			return &object.Members[i]
		}
	}
	return nil
}

// add puts an empty object under a new key, on a line of its own.
func (d *document) add(object *hujson.Object, key string, depth int) {
	before, after := d.space(object.AfterExtra, depth)
	object.Members = append(object.Members, hujson.ObjectMember{
		Name:  hujson.Value{BeforeExtra: before, Value: hujson.String(key)},
		Value: hujson.Value{BeforeExtra: hujson.Extra(" "), Value: &hujson.Object{}},
	})
	object.AfterExtra = after
}

// space is what stands before a new last element and behind it, from what stood at
// the end before: comments there belong to what was the last one.
func (d *document) space(end hujson.Extra, depth int) (before, after hujson.Extra) {
	comments := strings.TrimRight(string(end), " \t\r\n")
	return hujson.Extra(comments + "\n" + strings.Repeat(d.indent, depth)), hujson.Extra("\n" + strings.Repeat(d.indent, depth-1))
}

const indent = "  " // of a new document

// pretty is a value as it looks at a depth of the document.
func (d *document) pretty(value any, depth int) hujson.ValueTrimmed {
	encoded, err := json.MarshalIndent(value, strings.Repeat(d.indent, depth), d.indent)
	if err != nil {
		panic(err) // it is made of strings
	}
	parsed, err := hujson.Parse(encoded)
	if err != nil {
		panic(err)
	}
	return parsed.Value
}
