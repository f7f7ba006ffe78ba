package broker

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"meshbox/broker/store"
)

// maxBody bounds what a POST may carry, in bytes, but for REST, see bodyLimit.
const maxBody = 64 << 10

// documentHeaders go with every answer but scripts and style sheets, for which they
// mean nothing. The page loads nothing from elsewhere, is framed by nobody, and
// tells no other site where it was.
var documentHeaders = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
		"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), geolocation=(), microphone=()",
}

func (b *Broker) routes(web fs.FS) http.Handler {
	pages := newPages(web, basePath(b.cfg.PublicURL))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", b.serveWS)
	mux.HandleFunc("GET /{$}", pages.index)
	mux.HandleFunc("GET /join/{token}", pages.index)
	mux.HandleFunc("GET /i/{code}", pages.index)
	mux.HandleFunc("GET /web/{release}/{file}", pages.file)
	mux.HandleFunc("POST /join", b.postJoin)
	mux.HandleFunc("GET /api/public/invite-code/{code}", b.getInviteCode)
	mux.HandleFunc("POST /invites/{code}/claim", b.postClaim)
	mux.HandleFunc("POST "+statusPath, b.postStatus)
	mux.HandleFunc("POST "+hookPath+"{mesh}/{secret}", b.postWebhook)
	b.restRoutes(mux)
	mux.HandleFunc("GET /health", b.getHealth)
	mux.HandleFunc("GET /health/ready", b.getReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(b.metrics.registry, promhttp.HandlerOpts{}))
	guarded := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		for name, value := range documentHeaders {
			w.Header().Set(name, value)
		}
		r.Body = http.MaxBytesReader(w, r.Body, b.bodyLimit(r))
		guarded.ServeHTTP(w, r)
	})
}

// getHealth says whether meshbox works (protocol section 9): whether the data file can
// be read, and written.
func (b *Broker) getHealth(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	health := struct {
		Status  string `json:"status"`
		DB      string `json:"db"`
		Message string `json:"message,omitempty"` // what is wrong, in a sentence (ours)
		Version string `json:"version"`
		Uptime  int64  `json:"uptime"` // seconds
	}{"ok", "up", "", b.cfg.Version, int64(time.Since(b.started).Seconds())}
	status := http.StatusOK
	err := b.db.Ping(ctx)
	if err == nil {
		err = b.db.CanWrite(ctx)
	}
	if err != nil && r.Context().Err() == nil {
		b.log.Error("health check failed", "err", err)
		health.Status, health.DB, status = "degraded", store.Trouble(err), http.StatusServiceUnavailable
		health.Message = troubles[health.DB]
	}
	writeJSON(w, status, health)
}

// troubles are sentences for what store.Trouble names.
var troubles = map[string]string{
	"full":      "The disk is full: nothing can be stored until there is space.",
	"read_only": "The data file can not be written; check its owner, its mode and the file system.",
	"busy":      "The data file does not take a write in time: another program holds it, or the disk is very slow.",
	"damaged":   "The data file is damaged; restore a backup.",
	"down":      "The data file does not answer; the log says why.",
}

// getReady says whether meshbox takes connections: the schema is current and it
// is not shutting down.
func (b *Broker) getReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	b.mu.RLock()
	draining := b.draining
	b.mu.RUnlock()
	current, err := b.db.SchemaCurrent(ctx)
	switch {
	case draining:
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "draining"})
	case err != nil || !current:
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "schema_not_current"})
	default:
		writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
