// Package web holds the web chat: one HTML page, one style sheet and ES modules
// that a browser runs as they are. There is no build step, so the files here are
// exactly what is served.
package web

import "embed"

// FS contains index.html, which answers /, /join/{token} and /i/{code}, and the
// files it asks for below /web/<release>/.
//
//go:embed index.html *.css *.js *.svg *.webmanifest
var FS embed.FS
