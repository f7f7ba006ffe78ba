package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"meshbox/broker/doctor"
	"meshbox/broker/store"
)

const (
	defaultListen = "127.0.0.1:7900"
	defaultDB     = "meshbox.db"
	defaultURL    = "http://localhost:7900"

	publicURLKey   = doctor.PublicURLKey // in the setting table
	fingerprintKey = "tls_fingerprint"   // likewise; "" if the certificate is not self-signed
)

// dataFlags are those of commands that open the data file.
type dataFlags struct {
	db        string
	publicURL string
	mesh      string
	json      bool
}

func (f *dataFlags) addDB(c *cobra.Command) {
	c.Flags().StringVar(&f.db, "db", defaultDB, "the data file")
}

func (f *dataFlags) addMesh(c *cobra.Command) {
	c.Flags().StringVar(&f.mesh, "mesh", "", "the mesh, by name (default: the first one)")
}

func (f *dataFlags) addPublicURL(c *cobra.Command) {
	c.Flags().StringVar(&f.publicURL, "public-url", "", "what links begin with (default: what the server said last)")
}

func (f *dataFlags) addJSON(c *cobra.Command) {
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// open opens the data file beside a server that may be running.
func (f *dataFlags) open() (*store.DB, error) {
	if f.db == "" {
		return nil, errNoDB
	}
	return store.Open(f.db, store.Options{})
}

// errNoDB: the empty path would be taken for the current folder.
var errNoDB = usagef("--db is empty; name the data file")

// url is the base of links: the flag's, else what the server said last.
func (f *dataFlags) url(ctx context.Context, db *store.DB) (string, error) {
	if f.publicURL != "" {
		return checkPublicURL(f.publicURL)
	}
	known, err := db.Setting(ctx, publicURLKey)
	if errors.Is(err, store.ErrNotFound) {
		return defaultURL, nil
	}
	return known, err
}

// fingerprint is that of the certificate which the server made for itself, "" if it
// has none, or if the flag names another address.
func (f *dataFlags) fingerprint(ctx context.Context, db *store.DB) (string, error) {
	if f.publicURL != "" {
		return "", nil
	}
	known, err := db.Setting(ctx, fingerprintKey)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return known, err
}

// onMesh does something with the mesh the flag names, else the first one.
func (f *dataFlags) onMesh(ctx context.Context, do func(*store.DB, store.Mesh) error) error {
	db, err := f.open()
	if err != nil {
		return err
	}
	defer db.Close()
	mesh, err := f.chooseMesh(ctx, db)
	if err != nil {
		return err
	}
	return do(db, mesh)
}

// chooseMeshes returns the mesh the flag names, else all.
func (f *dataFlags) chooseMeshes(ctx context.Context, db *store.DB) ([]store.Mesh, error) {
	if f.mesh == "" {
		return db.Meshes(ctx)
	}
	mesh, err := f.chooseMesh(ctx, db)
	return []store.Mesh{mesh}, err
}

// chooseMesh returns the mesh the flag names, else the first one.
func (f *dataFlags) chooseMesh(ctx context.Context, db *store.DB) (store.Mesh, error) {
	meshes, err := db.Meshes(ctx)
	if err != nil {
		return store.Mesh{}, err
	}
	var names []string
	for _, m := range meshes {
		if f.mesh == "" || m.Slug == f.mesh || m.ID == f.mesh {
			return m, nil
		}
		names = append(names, m.Slug)
	}
	if len(names) == 0 {
		return store.Mesh{}, errors.New("there is no mesh; create one with: meshbox mesh create NAME")
	}
	return store.Mesh{}, fmt.Errorf("there is no mesh called %q; there are: %s", f.mesh, strings.Join(names, ", "))
}
