package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

func (a *app) meshCommand() *cobra.Command {
	c := &cobra.Command{Use: "mesh", Short: "List, create and rename meshes", Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.meshListCommand(), a.meshCreateCommand(), a.meshRenameCommand())
	return c
}

// meshEntry is one object of "mesh list --json".
type meshEntry struct {
	Name      string `json:"name"`
	ID        string `json:"id"`
	Members   int    `json:"members"`
	Owner     string `json:"owner"` // display name, "" until the first link was used
	CreatedAt string `json:"created_at"`
}

func (a *app) meshListCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "list", Short: "List the meshes", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.meshList(c.Context(), f) },
	}
	f.addDB(c)
	f.addJSON(c)
	return c
}

func (a *app) meshList(ctx context.Context, f *dataFlags) error {
	db, err := f.open()
	if err != nil {
		return err
	}
	defer db.Close()
	meshes, err := db.Meshes(ctx)
	if err != nil {
		return err
	}
	entries := []meshEntry{}
	var rows [][]string
	for _, mesh := range meshes {
		members, err := db.Members(ctx, mesh.ID)
		if err != nil {
			return err
		}
		e := meshEntry{Name: mesh.Slug, ID: mesh.ID, CreatedAt: wire.Time(mesh.CreatedAt)}
		for _, m := range members {
			if m.RevokedAt.IsZero() {
				e.Members++
			}
			if m.ID == mesh.OwnerMemberID {
				e.Owner = m.DisplayName
			}
		}
		entries = append(entries, e)
		rows = append(rows, []string{e.Name, fmt.Sprint(e.Members), e.Owner, moment(mesh.CreatedAt), e.ID})
	}
	if f.json {
		return printJSON(a.out, entries)
	}
	return table(a.out, []string{"NAME", "MEMBERS", "OWNER", "CREATED", "ID"}, rows)
}

func (a *app) meshCreateCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "create NAME", Short: "Create a mesh and print its first link", Args: arguments(1, 1, "NAME"),
		RunE: func(c *cobra.Command, args []string) error { return a.meshCreate(c.Context(), f, args[0]) },
	}
	f.addDB(c)
	f.addPublicURL(c)
	f.addJSON(c)
	return c
}

func (a *app) meshCreate(ctx context.Context, f *dataFlags, name string) error {
	if err := checkMeshName(name); err != nil {
		return err
	}
	db, err := f.open()
	if err != nil {
		return err
	}
	defer db.Close()
	publicURL, err := f.url(ctx, db)
	if err != nil {
		return err
	}
	first := broker.NewMesh(name, publicURL, time.Now())
	err = db.CreateMesh(first)
	if errors.Is(err, store.ErrExists) {
		return fmt.Errorf("there is a mesh called %q already; choose another name", name)
	}
	if err != nil {
		return err
	}
	i := describe(first.Invites[0], first.Mesh, publicURL)
	if f.json {
		return printJSON(a.out, i)
	}
	fmt.Fprintf(a.out, "The mesh %q is ready. This link works once, for 24 hours,\nand makes its user the owner:\n\n%s\n", name, styleOf(a.out).link(i.Link))
	return nil
}

func checkMeshName(name string) error {
	if !store.ValidMeshName(name) {
		return usagef("the name %q must be 1 to 31 of a-z, 0-9 and -, and start with a letter or digit", name)
	}
	return nil
}

func (a *app) meshRenameCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "rename NAME", Short: "Give a mesh another name", Args: arguments(1, 1, "NAME"),
		RunE: func(c *cobra.Command, args []string) error { return a.meshRename(c.Context(), f, args[0]) },
	}
	f.addDB(c)
	f.addMesh(c)
	return c
}

func (a *app) meshRename(ctx context.Context, f *dataFlags, name string) error {
	if err := checkMeshName(name); err != nil {
		return err
	}
	return f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		err := db.RenameMesh(mesh.ID, "", name)
		if errors.Is(err, store.ErrExists) {
			return fmt.Errorf("there is a mesh called %q already; choose another name", name)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "The mesh %q is called %q now. Links made before go on working.\n", mesh.Slug, name)
		return nil
	})
}
