package broker

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// pages are the files of the web chat, read and compressed once.
//
// All but index.html are served below /web/<release>/, where the release is a
// hash over all of them: a browser keeps them for ever, and after an update of
// meshbox asks for others. Modules import each other by relative names, and those
// of another release are not there, so one page never runs with the scripts of
// two. index.html names the release and is asked for each time.
type pages struct {
	release string
	files   map[string]page
}

// page is one file.
type page struct {
	kind    string
	content []byte
	zipped  []byte // nil if that is no smaller
	etag    string // without its quotes
}

// base is the path of the public URL, "" or /mesh: index.html names its files below
// it, and scripts find it out from where they were loaded (web/base.js).
func newPages(web fs.FS, base string) *pages {
	contents := map[string][]byte{}
	names, err := fs.Glob(web, "*") // sorted
	if err != nil {
		panic(err) // the pattern is a constant
	}
	sum := sha256.New()
	for _, name := range names {
		content, err := fs.ReadFile(web, name)
		if err != nil {
			continue // a folder
		}
		contents[name] = content
		sum.Write([]byte(name + "\x00"))
		sum.Write(content)
	}
	p := &pages{release: hex.EncodeToString(sum.Sum(nil)[:8]), files: map[string]page{}}
	for name, content := range contents {
		if name == "index.html" {
			content = bytes.ReplaceAll(content, []byte(`"/web/`), []byte(`"`+base+`/web/`+p.release+`/`))
		}
		p.files[name] = newPage(name, content)
	}
	return p
}

func newPage(name string, content []byte) page {
	sum := sha256.Sum256(content)
	p := page{kind: contentType(name), content: content, etag: hex.EncodeToString(sum[:12])}
	var zipped bytes.Buffer
	z, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	z.Write(content) // a bytes.Buffer takes everything
	z.Close()
	if zipped.Len() < len(content) {
		p.zipped = zipped.Bytes()
	}
	return p
}

// contentType does not ask the system's mime tables, which on some machines
// call JavaScript text/plain.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".webmanifest":
		return "application/manifest+json"
	}
	return mime.TypeByExtension(path.Ext(name))
}

func (p *pages) index(w http.ResponseWriter, r *http.Request) {
	p.files["index.html"].serve(w, r, "no-cache")
}

func (p *pages) file(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	file, ok := p.files[name]
	if !ok || name == "index.html" || r.PathValue("release") != p.release {
		w.Header().Set("Cache-Control", "no-store")
		http.NotFound(w, r)
		return
	}
	if ext := path.Ext(name); ext == ".js" || ext == ".css" {
		for header := range documentHeaders { // they would be half of what a small file weighs
			w.Header().Del(header)
		}
	}
	file.serve(w, r, "public, max-age=31536000, immutable")
}

// serve answers with a file, compressed if the client takes that, or with 304.
func (file page) serve(w http.ResponseWriter, r *http.Request, keep string) {
	content, etag := file.content, file.etag
	header := w.Header()
	if file.zipped != nil && takesGzip(r) {
		content, etag = file.zipped, etag+"-gzip"
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Vary", "Accept-Encoding")
	header.Set("Content-Type", file.kind)
	header.Set("Cache-Control", keep)
	header.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// takesGzip reports whether a client accepts gzip (RFC 9110 section 12.5.3).
func takesGzip(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(header, ",") {
			name, quality, _ := strings.Cut(coding, ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				_, value, _ := strings.Cut(quality, "=")
				q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				return err != nil || q > 0
			}
		}
	}
	return false
}
