package broker

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"meshbox/web"
)

// maxFirstPaint is what the page may weigh on the wire, everything included.
const maxFirstPaint = 100_000 // bytes

// weight is what an answer takes on the wire: its content, its headers, and what
// the server adds to those (status, date, encoding, chunks).
func weight(response *http.Response, content string) int {
	total := len(content) + 130
	for name, value := range response.Header {
		total += len(name) + len(value[0]) + len(": \r\n")
	}
	return total
}

// fetch asks the pages of the real web chat for a path.
func fetch(t *testing.T, path string, header ...string) (*http.Response, string) {
	t.Helper()
	p := newPages(web.FS, "")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.index)
	mux.HandleFunc("GET /web/{release}/{file}", p.file)
	request := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	mux.ServeHTTP(recorder, request)
	response := recorder.Result()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

var (
	linked   = regexp.MustCompile(`(?:href|src)="(/web/[^"]+)"`)
	imported = regexp.MustCompile(`(?m)^(?:import|export|}) .*from '\./([a-z]+\.js)';$`)
	deferred = regexp.MustCompile(`import\('\./([a-z]+\.js)'\)`)
)

// linksOf returns the files that the page names, each once.
func linksOf(page string) (paths []string) {
	for _, match := range linked.FindAllStringSubmatch(page, -1) {
		if !slices.Contains(paths, match[1]) {
			paths = append(paths, match[1])
		}
	}
	return paths
}

func TestFirstPaintIsLight(t *testing.T) {
	response, page := fetch(t, "/", "Accept-Encoding", "gzip")
	if response.Header.Get("Content-Encoding") != "gzip" || response.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("the page is not compressed: %v", response.Header)
	}
	total := weight(response, page)
	_, page = fetch(t, "/")
	for _, file := range linksOf(page) {
		response, content := fetch(t, file, "Accept-Encoding", "gzip")
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", file, response.StatusCode)
		}
		total += weight(response, content)
	}
	t.Logf("%d files, %d bytes", len(linksOf(page))+1, total)
	if total > maxFirstPaint {
		t.Errorf("the first paint weighs %d bytes, more than %d", total, maxFirstPaint)
	}
}

// A browser keeps what has the release in its address, and asks each time for the
// page that says which release that is.
func TestReleasesAreKeptAndNeverMixed(t *testing.T) {
	response, page := fetch(t, "/")
	if response.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("the page: %v", response.Header)
	}
	release := newPages(web.FS, "").release
	for _, file := range linksOf(page) {
		if !strings.HasPrefix(file, "/web/"+release+"/") {
			t.Errorf("the page asks for %s outside its release", file)
		}
	}
	response, _ = fetch(t, "/web/"+release+"/main.js")
	if keep := response.Header.Get("Cache-Control"); keep != "public, max-age=31536000, immutable" || response.Header.Get("Content-Encoding") != "" {
		t.Errorf("%v", response.Header)
	}
	if again, _ := fetch(t, "/web/"+release+"/main.js", "If-None-Match", response.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("with its ETag: %d", again.StatusCode)
	}
	if zipped, _ := fetch(t, "/web/"+release+"/main.js", "Accept-Encoding", "gzip", "If-None-Match", response.Header.Get("ETag")); zipped.StatusCode != http.StatusOK {
		t.Errorf("compressed, with the ETag of what is not: %d", zipped.StatusCode)
	}
	for _, path := range []string{"/web/0123456789abcdef/main.js", "/web/" + release + "/index.html", "/web/" + release + "/nothing.js"} {
		if missing, _ := fetch(t, path); missing.StatusCode != http.StatusNotFound || missing.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, missing.StatusCode, missing.Header)
		}
	}
	for accepts, want := range map[string]string{"": "", "br": "", "gzip": "gzip", "GZIP, br": "gzip", "br, gzip;q=0.5": "gzip", "gzip;q=0": "", "x-gzipped": ""} {
		if response, _ := fetch(t, "/web/"+release+"/main.js", "Accept-Encoding", accepts); response.Header.Get("Content-Encoding") != want {
			t.Errorf("who accepts %q gets %q", accepts, response.Header.Get("Content-Encoding"))
		}
	}
}

// reachable returns the modules that main.js imports in one of these ways, itself
// included.
func reachable(t *testing.T, ways ...*regexp.Regexp) []string {
	t.Helper()
	release := newPages(web.FS, "").release
	needed := []string{"main.js"}
	for i := 0; i < len(needed); i++ {
		response, script := fetch(t, "/web/"+release+"/"+needed[i])
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s is imported and not there", needed[i])
		}
		for _, way := range ways {
			for _, match := range way.FindAllStringSubmatch(script, -1) {
				if !slices.Contains(needed, match[1]) {
					needed = append(needed, match[1])
				}
			}
		}
	}
	slices.Sort(needed)
	return needed
}

// What index.html preloads is what main.js imports, but for what it imports later.
func TestThePagePreloadsItsModules(t *testing.T) {
	needed := reachable(t, imported)
	var preloaded []string
	_, page := fetch(t, "/")
	for _, file := range linksOf(page) {
		if path.Ext(file) == ".js" {
			preloaded = append(preloaded, path.Base(file))
		}
	}
	slices.Sort(preloaded)
	if !slices.Equal(needed, preloaded) {
		t.Errorf("imported: %v\npreloaded: %v", needed, preloaded)
	}
	all, err := fs.Glob(web.FS, "*.js")
	if err != nil {
		t.Fatal(err)
	}
	if used := reachable(t, imported, deferred); !slices.Equal(all, used) {
		t.Errorf("there: %v\nused: %v", all, used)
	}
}

// The policy forbids scripts and styles in the page; so there must be none.
func TestThePageHasNothingInline(t *testing.T) {
	_, page := fetch(t, "/")
	for _, inline := range []string{`<style`, ` style=`, `onclick=`, `<script>`, `javascript:`, `http:`, `https:`} {
		if strings.Contains(page, inline) {
			t.Errorf("the page contains %s", inline)
		}
	}
}
