package service

import (
	"bytes"
	"strings"
	"text/template"
)

// mark is the first line of each unit written here.
const mark = "# Written by \"meshbox service install\"; \"meshbox service uninstall\" removes it.\n"

// Plan is what a unit is to run.
type Plan struct {
	Binary string   // absolute path
	Args   []string // of the binary
	Folder string   // absolute path of the data file's; of a system unit it is StateFolder
	Low    bool     // it listens on a port below 1024
}

// Unit returns the text of the unit.
func (m *Manager) Unit(p Plan) string {
	words := []string{word(p.Binary)}
	for _, arg := range p.Args {
		words = append(words, word(arg))
	}
	var text bytes.Buffer
	err := unitText.Execute(&text, map[string]any{
		"Mark": mark, "System": m.System, "Low": p.Low, "Start": strings.Join(words, " "), "Folder": specifiers.Replace(p.Folder),
	})
	if err != nil {
		panic(err) // it is made of strings
	}
	return text.String()
}

// unitText: see systemd.unit(5), systemd.service(5) and systemd.exec(5). An exit code
// of 2 is a wrong command line, which no repetition mends; a full disk is mended by a
// person, and then nobody should have to think of the service, too.
var unitText = template.Must(template.New("unit").Parse(`{{.Mark}}[Unit]
Description=meshbox, a room for AI coding sessions and their people
{{- if .System}}
Wants=network-online.target
After=network-online.target
{{- end}}
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={{.Start}}
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
TimeoutStopSec=20
LimitNOFILE=65536
UMask=0077
{{- if .System}}
DynamicUser=yes
StateDirectory=meshbox
StateDirectoryMode=0700
WorkingDirectory=%S/meshbox
{{- if .Low}}
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
{{- else}}
CapabilityBoundingSet=
{{- end}}
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
{{- else}}
WorkingDirectory={{.Folder}}
{{- end}}
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy={{if .System}}multi-user{{else}}default{{end}}.target
`))

// specifiers keeps systemd from replacing what follows a %.
var specifiers = strings.NewReplacer("%", "%%")

// word is text as one word of ExecStart (systemd.service(5), "Command lines").
func word(text string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "%", "%%", "$", "$$").Replace(text)
	if escaped == text && text != "" && !strings.ContainsAny(text, " ';") {
		return text
	}
	return `"` + escaped + `"`
}

// words undoes word for a whole line.
func words(line string) (all []string) {
	var current strings.Builder
	inside, quoted := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted, inside = !quoted, true
		case c == ' ' && !quoted:
			if inside {
				all = append(all, current.String())
				current.Reset()
			}
			inside = false
		case (c == '\\' || c == '%' || c == '$') && i+1 < len(line):
			i++
			current.WriteByte(unescaped(c, line[i]))
			inside = true
		default:
			current.WriteByte(c)
			inside = true
		}
	}
	if inside {
		all = append(all, current.String())
	}
	return all
}

// unescaped is what stands for c behind a sign of escape.
func unescaped(escape, c byte) byte {
	if escape == '\\' && c == 'n' {
		return '\n'
	}
	if escape == '\\' && c == 't' {
		return '\t'
	}
	return c
}
