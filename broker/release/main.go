// Command release builds what is given to people: an archive for each platform with
// the program, its manual pages and completions, and SHA256SUMS of them all.
//
//	go run ./broker/release
//
// The same commit and the same Go version make the same bytes, on whatever machine
// and in whatever folder: nothing of the machine, the folder or the time gets in.
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// platforms are those of a release.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64"}

func main() {
	out := pflag.String("out", "dist", "folder for the archives")
	only := pflag.StringSlice("only", platforms, "platforms to build for")
	pflag.Parse()
	if err := release(*out, *only); err != nil {
		fmt.Fprintf(os.Stderr, "release: %s\n", err)
		os.Exit(1)
	}
}

func release(out string, only []string) error {
	for _, platform := range only {
		if !slices.Contains(platforms, platform) {
			return fmt.Errorf("there is no platform %q; there are: %s", platform, strings.Join(platforms, ", "))
		}
	}
	at, err := commitTime()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "meshbox-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	host := filepath.Join(work, "host")
	if err := build(host, runtime.GOOS+"/"+runtime.GOARCH); err != nil {
		return err
	}
	version, err := versionOf(host)
	if err != nil {
		return err
	}
	shared, err := sharedFiles(host, work, at)
	if err != nil {
		return err
	}
	if err := clearOut(out); err != nil {
		return err
	}
	var sums []string
	for _, platform := range only {
		name, content, err := pack(work, platform, version, shared, at)
		if err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
		if err := os.WriteFile(filepath.Join(out, name), content, 0o644); err != nil {
			return err
		}
		sums = append(sums, fmt.Sprintf("%x  %s\n", sha256.Sum256(content), name))
	}
	slices.SortFunc(sums, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	if err := os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(strings.Join(sums, "")), 0o644); err != nil {
		return err
	}
	fmt.Printf("meshbox %s, built with %s, in %s:\n%s", version, runtime.Version(), out, strings.Join(sums, ""))
	return nil
}

// commitTime is that of the commit, which has to be all there is.
func commitTime() (time.Time, error) {
	changed, err := git("status", "--porcelain")
	if err != nil {
		return time.Time{}, fmt.Errorf("a release is made in a clone: %w", err)
	}
	if changed != "" {
		return time.Time{}, fmt.Errorf("the folder is not as the commit has it; commit or remove what is changed:\n%s", changed)
	}
	text, err := git("log", "-1", "--format=%ct")
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(seconds, 0).UTC(), err
}

func git(args ...string) (string, error) {
	command := exec.Command("git", args...)
	command.Stderr = os.Stderr
	said, err := command.Output()
	return strings.TrimSpace(string(said)), err
}

// build makes the program for a platform. Settings of the machine that change it are
// overruled.
func build(path, platform string) error {
	system, processor, _ := strings.Cut(platform, "/")
	command := exec.Command("go", "build", "-buildvcs=true", "-ldflags=-s -w -buildid=", "-o", path, ".")
	command.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+processor, "CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOWORK=off")
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("go build for %s: %w", platform, err)
	}
	return nil
}

// versionOf is what the program says of itself: of a tagged commit the tag.
func versionOf(path string) (string, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	switch {
	case settings["vcs.revision"] == "":
		return "", errors.New("go build recorded no commit, as in a worktree of git; make the release in a clone")
	case settings["vcs.modified"] == "true":
		return "", errors.New("go build found changes since the commit")
	}
	return info.Main.Version, nil
}

// sharedFiles are those of each archive: what to read, manual pages, completions.
func sharedFiles(host, work string, at time.Time) ([]file, error) {
	var files []file
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: name, content: content})
	}
	pages := filepath.Join(work, "man1")
	if _, err := run(at, host, "man", pages); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(pages)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(pages, entry.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: "man/man1/" + entry.Name(), content: content})
	}
	for shell, name := range map[string]string{"bash": "meshbox.bash", "zsh": "_meshbox", "fish": "meshbox.fish", "powershell": "meshbox.ps1"} {
		content, err := run(at, host, "completion", shell)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: "completions/" + name, content: content})
	}
	return files, nil
}

func run(at time.Time, program string, args ...string) ([]byte, error) {
	command := exec.Command(program, args...)
	command.Env = []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", at.Unix())}
	command.Stderr = os.Stderr
	return command.Output()
}

// clearOut makes the folder, and removes what an earlier release left there.
func clearOut(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, pattern := range []string{"meshbox_*.tar.gz", "meshbox_*.zip", "SHA256SUMS"} {
		old, err := filepath.Glob(filepath.Join(out, pattern))
		if err != nil {
			return err
		}
		for _, path := range old {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// pack builds for a platform and returns its archive, as people there unpack one.
func pack(work, platform, version string, shared []file, at time.Time) (name string, content []byte, err error) {
	system, processor, _ := strings.Cut(platform, "/")
	program := file{name: "meshbox", program: true}
	archive, suffix := tarball, ".tar.gz"
	if system == "windows" {
		program.name, archive, suffix = "meshbox.exe", zipped, ".zip"
	}
	path := filepath.Join(work, system+"-"+processor)
	if err := build(path, platform); err != nil {
		return "", nil, err
	}
	if program.content, err = os.ReadFile(path); err != nil {
		return "", nil, err
	}
	folder := strings.Join([]string{"meshbox", version, system, processor}, "_")
	var packed bytes.Buffer
	err = archive(&packed, folder, append([]file{program}, shared...), at)
	return folder + suffix, packed.Bytes(), err
}
