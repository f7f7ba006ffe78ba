// Package gate stands in front of all that meshbox serves over HTTP: it finds out
// who really asks when a proxy is in between, answers only for names that are this
// server's, takes the base path off, and bounds how many connections there are and
// how slowly a request may come in. What is behind it reads Request.RemoteAddr and
// Request.Host and need not know of proxies.
package gate
