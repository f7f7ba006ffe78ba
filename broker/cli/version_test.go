package cli

import (
	"runtime/debug"
	"testing"
)

func TestWhatABuildRecords(t *testing.T) {
	settings := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time", Value: "2026-11-25T17:06:40Z"}}
	for _, test := range []struct {
		module   string
		settings []debug.BuildSetting
		want     buildInfo
	}{
		{"v1.2.3", settings, buildInfo{Version: "v1.2.3", Commit: "0123456789abcdef", Dirty: true, Built: "2026-11-25T17:06:40Z"}},
		{"(devel)", settings, buildInfo{Version: "devel-0123456789ab", Commit: "0123456789abcdef", Dirty: true, Built: "2026-11-25T17:06:40Z"}},
		{"(devel)", nil, buildInfo{Version: "devel"}},
		{"", nil, buildInfo{Version: "devel"}},
	} {
		var got buildInfo
		if got.read(&debug.BuildInfo{Main: debug.Module{Version: test.module}, Settings: test.settings}); got != test.want {
			t.Errorf("module version %q: %+v, want %+v", test.module, got, test.want)
		}
	}
}
