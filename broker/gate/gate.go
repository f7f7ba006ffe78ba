package gate

import (
	"fmt"
	"net/http"
	"strings"

	"meshbox/broker/wire"
)

// Reasons of refusals, as they are counted.
const (
	WrongHost   = "wrong_host"
	TooMany     = "connections"             // --max-total-connections
	TooManyFrom = "connections_per_address" // --max-connections-per-address
)

// Config is what a gate lets through.
type Config struct {
	Base    string       // what all paths begin with, "" or /mesh
	Hosts   *Hosts       // nil: every name is ours
	Proxies Networks     // those whose X-Forwarded-… headers are believed
	Refused func(string) // counts a refusal by its reason
}

// Handler returns a handler that hands on to next what may pass.
func (c Config) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.Host // by whoever connected: a page that claims to be a proxy does not choose it
		r = c.Proxies.unwrap(r)
		for _, host := range []string{asked, r.Host} {
			if !c.Hosts.Allow(host) {
				c.Refused(WrongHost)
				wrongHost(w, host)
				return
			}
		}
		limitTime(w, r)
		if c.Base == "" {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == c.Base {
			http.Redirect(w, r, c.Base+"/", http.StatusPermanentRedirect)
			return
		}
		next.ServeHTTP(w, below(r, c.Base))
	})
}

// below takes the base path off a request. What comes without it is left as it is: a
// proxy took it off before, or a program on this machine asks directly.
func below(r *http.Request, base string) *http.Request {
	path, ok := strings.CutPrefix(r.URL.Path, base+"/")
	if !ok {
		return r
	}
	stripped := r.WithContext(r.Context()) // a copy
	location := *r.URL
	location.Path = "/" + path
	location.RawPath = strings.TrimPrefix(r.URL.RawPath, base) // the base needs no escapes
	stripped.URL = &location
	return stripped
}

// wrongHost answers a request for a name that may not be ours (RFC 9110, section
// 15.5.20).
func wrongHost(w http.ResponseWriter, host string) {
	name := wire.CleanLine(hostname(host), wire.MaxNameLen)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, fmt.Sprintf("meshbox does not answer for the name %q: a page of another site may have sent you here.\n"+
		"If the name is yours, start meshbox with --public-url https://%s, or with --allowed-hosts %s.", name, name, name), http.StatusMisdirectedRequest)
}
