package webhook

import (
	"fmt"
	"strings"
)

// notification is the body of Alertmanager (version 4 of its webhook), and of
// Grafana's unified alerting, which sends the same and more:
// https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and
// https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
type notification struct {
	Alerts      []alert           `json:"alerts"`
	Truncated   int               `json:"truncatedAlerts"` // that were left out
	GroupLabels map[string]string `json:"groupLabels"`
	ExternalURL string            `json:"externalURL"`
}

type alert struct {
	Status       string            `json:"status"` // firing or resolved
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	GeneratorURL string            `json:"generatorURL"`
	PanelURL     string            `json:"panelURL"`     // Grafana's
	DashboardURL string            `json:"dashboardURL"` // Grafana's
}

const maxAlerts = 10 // shown of one notification

// alertLines shows alerts, each on a line of its own.
func (m *message) alertLines() string {
	switch len(m.Alerts) {
	case 0:
		return m.titled()
	case 1:
		if m.Truncated <= 0 {
			return m.Alerts[0].line()
		}
	}
	var firing int
	for _, a := range m.Alerts {
		if !a.resolved() {
			firing++
		}
	}
	lines := []string{fmt.Sprintf("**%d firing, %d resolved**", firing, len(m.Alerts)-firing)}
	for i, a := range m.Alerts {
		if i < maxAlerts {
			lines = append(lines, "- "+a.line())
		}
	}
	if more := max(0, len(m.Alerts)-maxAlerts) + max(0, m.Truncated); more > 0 {
		lines = append(lines, link(fmt.Sprintf("and %d more", more), m.ExternalURL))
	}
	return strings.Join(lines, "\n")
}

func (a *alert) resolved() bool { return a.Status == "resolved" }

// line is such as: **FIRING** HighLatency on web-1 (critical): p99 is above 2 s
func (a *alert) line() string {
	state := "**FIRING**"
	if a.resolved() {
		state = "**RESOLVED**"
	}
	name := link(first(label(a.Labels["alertname"]), "alert"), first(a.PanelURL, a.DashboardURL, a.GeneratorURL))
	line := state + " " + name
	if where := first(a.Labels["instance"], a.Labels["host"], a.Labels["pod"], a.Labels["job"]); where != "" {
		line += " on " + label(where)
	}
	if severity := a.Labels["severity"]; severity != "" {
		line += " (" + label(severity) + ")"
	}
	return join(": ", line, named(first(a.Annotations["summary"], a.Annotations["description"], a.Annotations["message"])))
}

// first returns the first text that is not empty.
func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
