package demo

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var secret = []byte("a shared secret of thirty-two bytes or more")

func ask(method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	Handler(secret).ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w
}

func TestPaths(t *testing.T) {
	for _, tt := range []struct {
		method, target string
		status         int
		contentType    string
		contains       string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8", "<!doctype html>"},
		{"GET", "/?a=b", 200, "text/html; charset=utf-8", "<!doctype html>"},
		{"HEAD", "/", 200, "text/html; charset=utf-8", ""},
		{"GET", "/main.js", 200, "text/javascript; charset=utf-8", "import"},
		{"GET", "/page.css", 200, "text/css; charset=utf-8", "body"},
		{"GET", "/heliograph.svg", 200, "image/svg+xml", "<svg"},
		{"GET", "/signalr/signalr.min.js", 200, "text/javascript; charset=utf-8", "HubConnectionBuilder"},
		{"GET", "/signalr/LICENSE.txt", 200, "text/plain; charset=utf-8", "The MIT License"},
		{"GET", "/index.html", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/signalr/", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/nothing", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/demo", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/demo/token/more", 404, "text/plain; charset=utf-8", ""},
		{"POST", "/", 405, "text/plain; charset=utf-8", ""},
		{"DELETE", "/main.js", 405, "text/plain; charset=utf-8", ""},
		{"GET", "/demo/token", 405, "application/json", `{"error":"use POST"}`},
		{"POST", "/demo/token", 400, "application/json", `{"error":`},
	} {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			w := ask(tt.method, tt.target, "")
			if w.Code != tt.status || w.Header().Get("Content-Type") != tt.contentType || !strings.Contains(w.Body.String(), tt.contains) {
				t.Errorf("got %d %q %.80q, want %d %q and %q in it", w.Code, w.Header().Get("Content-Type"), w.Body, tt.status, tt.contentType, tt.contains)
			}
			if w.Code == 405 && w.Header().Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
				"X-Content-Type-Options":  "nosniff",
				"Referrer-Policy":         "no-referrer",
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestCaching(t *testing.T) {
	first := ask("GET", "/main.js", "")
	tag := first.Header().Get("ETag")
	if tag == "" || first.Header().Get("Cache-Control") != "no-cache" {
		t.Fatalf("got ETag %q, Cache-Control %q", tag, first.Header().Get("Cache-Control"))
	}
	if other := ask("GET", "/page.css", "").Header().Get("ETag"); other == tag {
		t.Errorf("two files have the tag %s", tag)
	}
	for given, status := range map[string]int{tag: http.StatusNotModified, `"old"`: http.StatusOK} {
		r := httptest.NewRequest("GET", "/main.js", nil)
		r.Header.Set("If-None-Match", given)
		w := httptest.NewRecorder()
		Handler(secret).ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("If-None-Match %s: got %d, want %d", given, w.Code, status)
		}
	}
}

// All that the page refers to is there, and nothing in it comes from elsewhere or needs
// what the content security policy forbids.
func TestReferences(t *testing.T) {
	reference := regexp.MustCompile(`(?:src|href)="([^"#]+)"|from "(\./[^"]+)"|sourceMappingURL=(\S+)`)
	forbidden := regexp.MustCompile(`<style|<script>|\sstyle=|\son[a-z]+="|innerHTML|outerHTML|insertAdjacentHTML|document\.write|https?://`)
	found := 0
	err := fs.WalkDir(page, "page", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) == ".txt" {
			return err
		}
		content, err := fs.ReadFile(page, name)
		if err != nil {
			return err
		}
		for _, m := range reference.FindAllStringSubmatch(string(content), -1) {
			found++
			to := path.Join("/", path.Dir(strings.TrimPrefix(name, "page/")), m[1]+m[2]+m[3])
			if w := ask("GET", to, ""); w.Code != http.StatusOK {
				t.Errorf("%s refers to %s: status %d", name, to, w.Code)
			}
		}
		if !strings.HasPrefix(name, "page/signalr/") {
			text := strings.ReplaceAll(string(content), "http://www.w3.org/", "") // names of namespaces
			if bad := forbidden.FindString(text); bad != "" {
				t.Errorf("%s has %q", name, bad)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 10 {
		t.Errorf("%d references found: the test does not see them", found)
	}
}

func TestAssetsOfUnknownKind(t *testing.T) {
	defer func() {
		if reason, _ := recover().(string); !strings.Contains(reason, "x/what.exe") {
			t.Errorf("panic is %q, want one that names the file", reason)
		}
	}()
	assets(fstest.MapFS{"x/what.exe": {}}, "x")
}

func TestHandlerCopiesSecret(t *testing.T) {
	given := slices.Clone(secret)
	h := Handler(given)
	clear(given)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/demo/token", strings.NewReader(`{"user":"ada"}`)))
	if got := subject(t, w.Body.Bytes()); got != "ada" {
		t.Errorf("the token is for %q", got)
	}
}
