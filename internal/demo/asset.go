package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// contentTypes are those of all files that are served. They stand here because the
// types that a system knows differ between systems.
var contentTypes = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// An asset is a file that is served as it is.
type asset struct {
	content     []byte
	contentType string
	tag         string // of the content, so that a browser asks again but loads nothing twice
}

// assets returns the files in the directory by the pattern of the path that they are
// served at. It panics for a file that it has no type for.
func assets(files fs.FS, directory string) map[string]asset {
	found := make(map[string]asset)
	err := fs.WalkDir(files, directory, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		contentType, known := contentTypes[path.Ext(name)]
		if !known {
			return fmt.Errorf("%s: no content type for files of this kind", name)
		}
		sum := sha256.Sum256(content)
		served := strings.TrimPrefix(name, directory)
		if served == "/index.html" {
			served = "/{$}"
		}
		found[served] = asset{content, contentType, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
		return nil
	})
	if err != nil {
		panic("read the embedded page: " + err.Error())
	}
	return found
}

func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("ETag", a.tag)
	h.Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.content))
}
