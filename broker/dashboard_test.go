package broker

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// metricNames are those of a registry: what it describes, and of histograms also the
// series behind it.
func metricNames(t *testing.T, registry *prometheus.Registry) map[string]bool {
	t.Helper()
	described := make(chan *prometheus.Desc)
	go func() { registry.Describe(described); close(described) }()
	fqName := regexp.MustCompile(`fqName: "([^"]+)"`)
	names := map[string]bool{}
	for desc := range described {
		match := fqName.FindStringSubmatch(desc.String())
		if match == nil {
			t.Fatalf("a description without a name: %s", desc)
		}
		names[match[1]] = true
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		names[family.GetName()] = true
		if family.GetType().String() == "HISTOGRAM" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				names[family.GetName()+suffix] = true
			}
		}
	}
	return names
}

// asked are the metrics that expressions name.
func asked(expressions ...string) map[string]bool {
	names := map[string]bool{}
	for _, expression := range expressions {
		for _, name := range regexp.MustCompile(`\b(?:broker|go|process|promhttp)_[a-z0-9_]+`).FindAllString(expression, -1) {
			names[name] = true
		}
	}
	return names
}

// dashboard is what of docs/grafana.json is looked at.
type dashboard struct {
	Panels []struct {
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr string }
	}
	Templating struct{ List []struct{ Definition string } }
}

// What the dashboard and the alerts ask for is there, and the dashboard shows all
// that is ours. Only this keeps them right: nobody looks at them before it is night.
func TestDashboardAndAlertsAskForOurMetrics(t *testing.T) {
	h := newHouse(t)
	known := metricNames(t, h.metrics.registry)
	text, err := os.ReadFile("../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var expressions []string
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			expressions = append(expressions, target.Expr)
			if !strings.Contains(target.Expr, `job="$job"`) {
				t.Errorf("the panel %q mixes servers: %s", panel.Title, target.Expr)
			}
		}
	}
	for _, variable := range d.Templating.List {
		expressions = append(expressions, variable.Definition)
	}
	shown := asked(expressions...)
	alerts, err := os.ReadFile("../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules := asked(regexp.MustCompile(`(?m)^ *expr: .*$`).FindAllString(string(alerts), -1)...)
	if len(rules) < 5 {
		t.Errorf("the alerts ask for %v only", rules)
	}
	for _, from := range []map[string]bool{shown, rules} {
		for name := range from {
			if !known[name] {
				t.Errorf("there is no metric %s", name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		bare := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "broker_") && !shown[bare] && !shown[bare+"_bucket"] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

func TestDashboardPanelsDoNotOverlap(t *testing.T) {
	text, err := os.ReadFile("../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	for i, a := range d.Panels {
		if a.GridPos.X+a.GridPos.W > 24 {
			t.Errorf("%q is out of the grid", a.Title)
		}
		for _, b := range d.Panels[i+1:] {
			p, q := a.GridPos, b.GridPos
			if p.X < q.X+q.W && q.X < p.X+p.W && p.Y < q.Y+q.H && q.Y < p.Y+p.H {
				t.Errorf("%q and %q overlap", a.Title, b.Title)
			}
		}
	}
}
