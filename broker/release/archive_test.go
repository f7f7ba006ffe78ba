package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"testing"
	"time"
)

var (
	testTime  = time.Date(2026, 11, 25, 17, 6, 40, 0, time.UTC)
	testFiles = []file{{name: "meshbox", content: bytes.Repeat([]byte("program "), 1000), program: true}, {name: "LICENSE", content: []byte("MIT\n")}, {name: "man/man1/meshbox.1", content: []byte(".TH\n")}}
)

// An archive depends on the files and the time of the commit alone.
func TestArchivesAreReproducible(t *testing.T) {
	backwards := slices.Clone(testFiles)
	slices.Reverse(backwards)
	elsewhere := testTime.In(time.FixedZone("elsewhere", 5*3600))
	for name, archive := range map[string]func(io.Writer, string, []file, time.Time) error{"tar.gz": tarball, "zip": zipped} {
		var one, other, later bytes.Buffer
		err := errors.Join(archive(&one, "meshbox_v1", testFiles, testTime), archive(&other, "meshbox_v1", backwards, elsewhere), archive(&later, "meshbox_v1", testFiles, testTime.Add(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one.Bytes(), other.Bytes()) {
			t.Errorf("%s: the same files make different archives", name)
		}
		if bytes.Equal(one.Bytes(), later.Bytes()) {
			t.Errorf("%s: the time of the commit is not in it", name)
		}
	}
}

func TestTarball(t *testing.T) {
	var packed bytes.Buffer
	if err := tarball(&packed, "meshbox_v1", testFiles, testTime); err != nil {
		t.Fatal(err)
	}
	plain, err := gzip.NewReader(&packed)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(plain)
	for _, want := range []struct {
		name string
		mode int64
	}{{"meshbox_v1/LICENSE", 0o644}, {"meshbox_v1/man/man1/meshbox.1", 0o644}, {"meshbox_v1/meshbox", 0o755}} {
		header, err := archive.Next()
		if err != nil {
			t.Fatal(err)
		}
		if header.Name != want.name || header.Mode != want.mode || !header.ModTime.Equal(testTime) || header.Uid != 0 || header.Uname != "" {
			t.Errorf("%+v, want %+v", header, want)
		}
	}
	if _, err := archive.Next(); err != io.EOF {
		t.Errorf("more: %v", err)
	}
}

func TestZip(t *testing.T) {
	var packed bytes.Buffer
	if err := zipped(&packed, "meshbox_v1", testFiles, testTime); err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(packed.Bytes()), int64(packed.Len()))
	if err != nil {
		t.Fatal(err)
	}
	program, err := archive.Open("meshbox_v1/meshbox")
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(program)
	if err != nil || !bytes.Equal(content, testFiles[0].content) || len(archive.File) != len(testFiles) {
		t.Errorf("%d files, %d bytes, %v", len(archive.File), len(content), err)
	}
}
