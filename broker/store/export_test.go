package store

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every table of the schema is a mesh's or is not: a new one has to be put into
// exported, or notExported.
func TestEveryTableIsExportedOrNot(t *testing.T) {
	db, _ := newDB(t)
	var known []string
	for _, table := range exported {
		known = append(known, table.name)
	}
	for name := range notExported {
		known = append(known, name)
	}
	var tables []string
	err := each(t.Context(), db.read, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		tables = append(tables, name)
		return err
	}, `SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') AND name NOT LIKE 'sqlite%'`)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(known)
	slices.Sort(tables)
	if !slices.Equal(known, tables) {
		t.Errorf("tables are %q; exported and notExported name %q", tables, known)
	}
}

// Every column whose name says that it is the secret of something is left out of an
// export without secrets.
func TestSecretColumnsAreKnown(t *testing.T) {
	db, _ := newDB(t)
	secret := regexp.MustCompile(`secret|seed|token|hash|root_key|^code$`)
	for _, table := range exported {
		columns, err := columnsOf(t.Context(), db.read, table.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range columns {
			if table.name != "audit" && secret.MatchString(c.name) != slices.Contains(table.secrets, c.name) {
				t.Errorf("%s.%s: is it a secret? exported says %v", table.name, c.name, table.secrets)
			}
		}
	}
}

// populated is a file with two meshes that have used everything there is.
func populated(t testing.TB) (db *DB, meshID string) {
	t.Helper()
	db, meshID = newDB(t)
	must(t, db.Update(func(tx *Tx) error { return tx.exec(`UPDATE invite SET token = ? || id`, "t") }))
	other := home()
	other.Mesh.Slug, other.Invites[0].Token = "lab", "lab"+NewID()
	must(t, db.CreateMesh(*other))
	eve := addMember(t, db, other.Mesh.ID, "eve")
	ann, bob, cat := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob"), addMember(t, db, meshID, "cat")
	now := time.Now()
	_, _, err := db.CreateTopic(Topic{ID: NewID(), MeshID: meshID, Name: "deploys", Visibility: "private", CreatedAt: now}, ann.ID)
	must(t, err)
	for n := range 10 { // the numbers of the two meshes alternate
		for _, p := range []Post{
			topicPost(eve, "general", "ZWxzZXdoZXJl"), topicPost(ann, "general", "aGVsbG8gd29ybGQ="), topicPost(ann, "deploys", "Z3JlZW4="),
			{Message: Message{MeshID: meshID, SenderMemberID: bob.ID, SenderPubKey: bob.PubKey, SenderName: "bob", TargetSpec: "*", Ciphertext: "aGk=", BodyVersion: 1, ClientMessageID: fmt.Sprint("c", n), Fingerprint: "f"},
				Recipients: []Recipient{{MemberID: ann.ID}, {MemberID: cat.ID, SessionKey: keyOf("session")}}},
		} {
			p.Mentions = []string{"cat", "bob"}
			_, _, err := post(db, p)
			must(t, err)
		}
	}
	must(t, db.Update(func(tx *Tx) error {
		for _, statement := range []string{
			`UPDATE mesh SET owner_member_id = '` + ann.ID + `' WHERE id = '` + meshID + `'`,
			`UPDATE invite SET created_by = '` + ann.ID + `' WHERE mesh_id = '` + meshID + `'`,
			`INSERT INTO peer_grant VALUES ('` + ann.ID + `', '` + bob.PubKey + `', '["dm"]')`,
			`INSERT INTO session_key (mesh_id, pubkey, member_id, proven, summary, created_at, last_used_at) VALUES ('` + meshID + `', 'k', '` + cat.ID + `', 1, 'a "b" <c> ` + "\u2028" + `', 1, 2)`,
			`INSERT INTO lease VALUES ('` + NewID() + `', '` + meshID + `', '` + cat.ID + `', 'k', 1, 'cat', '{}', 'idle', 3)`,
			`INSERT INTO api_key VALUES ('` + NewID() + `', '` + meshID + `', '` + ann.ID + `', 'ci', 'cm_12345678', 'hash` + NewID() + `', '["send"]', NULL, 1, NULL, NULL, NULL)`,
			`UPDATE delivery SET settled_at = 5, outcome = 'acked' WHERE seq % 8 = 0`,
			`UPDATE topic_member SET delivered_seq = 22, delivered_at = 4, read_seq = 9, last_read_at = 4 WHERE member_id = '` + bob.ID + `'`,
			`INSERT INTO topic_gap SELECT topic_id, member_id, 2, 9, 7 FROM topic_member WHERE member_id = '` + cat.ID + `'`,
			`INSERT INTO topic_handed SELECT topic_id, member_id, 2, 9, 'woken' FROM topic_member WHERE member_id = '` + bob.ID + `'`,
			`INSERT INTO topic_seal SELECT topic_id, member_id, member_id, 'a2V5', 'bm9uY2U=', 7 FROM topic_member WHERE member_id = '` + cat.ID + `'`,
			`INSERT INTO webhook SELECT '` + NewID() + `', mesh_id, '` + ann.ID + `', id, 'grafana', 'p', 'hash' || id, 8 FROM topic WHERE mesh_id = '` + meshID + `' AND name = 'deploys'`,
			`DELETE FROM message WHERE topic_id IS NULL AND seq = 4`, `DELETE FROM delivery WHERE seq = 4`, // pruned
		} {
			if err := tx.exec(statement); err != nil {
				return err
			}
		}
		return nil
	}))
	return db, meshID
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exportOf(t testing.TB, db *DB, meshID string, secrets bool) string {
	t.Helper()
	var text bytes.Buffer
	_, err := db.Export(t.Context(), meshID, secrets, &text)
	must(t, err)
	return text.String()
}

// elsewhere opens a file without a mesh.
func elsewhere(t testing.TB) *DB {
	t.Helper()
	return mustOpen(t, filepath.Join(t.TempDir(), "meshbox.db"), Options{Schema: schemaText(t), Server: true})
}

func TestExportComesBackAsItIs(t *testing.T) {
	db, meshID := populated(t)
	text := exportOf(t, db, meshID, true)
	for _, table := range exported {
		if !strings.Contains(text, `{"kind":"`+table.name+`"`) {
			t.Errorf("there is no line of %s", table.name)
		}
	}
	if strings.Contains(text, "ZWxzZXdoZXJl") || strings.Contains(text, `"eve"`) {
		t.Error("it has something of another mesh")
	}
	fresh := elsewhere(t)
	done, err := fresh.Import(t.Context(), strings.NewReader(text), "")
	must(t, err)
	if done.Mesh.ID != meshID || done.Members != 3 || done.Messages != 29 {
		t.Errorf("imported %+v", done)
	}
	mustCheck(t, fresh.Path())
	if again := exportOf(t, fresh, meshID, true); again != text {
		t.Errorf("the second export differs:\n%s", difference(strings.Split(again, "\n"), strings.Split(text, "\n")))
	}
	sameView(t, db, fresh, meshID)

	// Also behind the messages of others.
	crowded, _ := populated(t)
	done, err = crowded.Import(t.Context(), strings.NewReader(text), "attic")
	must(t, err)
	if done.Mesh.Slug != "attic" {
		t.Errorf("it is called %q", done.Mesh.Slug)
	}
	mustCheck(t, crowded.Path())
	sameView(t, db, crowded, meshID)
	entries, _, err := crowded.AuditEntries(t.Context(), meshID, AuditQuery{Limit: 1})
	if err != nil || entries[0].Event != EventMeshRenamed {
		t.Errorf("the newest entry is %+v, %v", entries, err)
	}
}

// sameView wants members to be owed, and to find, the same in two files.
func sameView(t *testing.T, a, b *DB, meshID string) {
	t.Helper()
	members, err := a.Members(t.Context(), meshID)
	must(t, err)
	for _, m := range members {
		var views [2]string
		for i, db := range []*DB{a, b} {
			for _, session := range []string{"", keyOf("session")} {
				waiting, err := db.Pending(t.Context(), Mailbox{m.ID, session}, Waiting{Limit: 1000})
				must(t, err)
				for _, p := range waiting {
					views[i] += p.ID + " "
				}
			}
			topics, err := db.Topics(t.Context(), meshID, m.ID)
			must(t, err)
			found, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: m.ID, Query: "hello", Limit: 100})
			must(t, err)
			views[i] += fmt.Sprintf("%+v %d", topics, len(found))
		}
		if views[0] != views[1] {
			t.Errorf("%s:\n%s\n%s", m.DisplayName, views[0], views[1])
		}
	}
}

func TestExportWithoutSecrets(t *testing.T) {
	db, meshID := populated(t)
	text := exportOf(t, db, meshID, false)
	for _, secret := range []string{"owner_seed", "root_key", `"token"`, `"code"`, `"hash":"hash`} {
		if strings.Contains(text, secret) {
			t.Errorf("it has %s", secret)
		}
	}
	_, err := elsewhere(t).Import(t.Context(), strings.NewReader(text), "")
	if err == nil || !strings.Contains(err.Error(), "line 1: it was written without secrets") {
		t.Errorf("import: %v", err)
	}
}

// Whatever is in the rows of a mesh comes back, also behind the messages of others.
func TestExportOfAnything(t *testing.T) {
	db, _ := newDB(t)
	target := elsewhere(t)
	text := rapid.StringOfN(rapid.RuneFrom([]rune("a\"\\<>&\n\x01\u2028\ufffd😀é")), 0, 12, -1)
	rapid.Check(t, func(r *rapid.T) {
		mesh := home()
		mesh.Mesh.Slug, mesh.Invites[0].Token = strings.ToLower(NewID()), NewID()
		must(t, db.CreateMesh(*mesh))
		ann := addMember(t, db, mesh.Mesh.ID, "ann")
		for range rapid.IntRange(0, 5).Draw(r, "messages") {
			p := topicPost(ann, "general", rapid.SampledFrom([]string{"aGk=", "not base64", "/w=="}).Draw(r, "ciphertext"))
			p.SenderName, p.BodyVersion = text.Draw(r, "name"), rapid.IntRange(1, 2).Draw(r, "version")
			_, _, err := post(db, p)
			must(t, err)
		}
		must(t, db.Update(func(tx *Tx) error {
			if err := tx.exec(`UPDATE mesh SET owner_seed = ? WHERE id = ?`, rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "seed"), ann.MeshID); err != nil {
				return err
			}
			err := tx.exec(`UPDATE member SET summary = ?, last_seen_at = ?, profile = ? WHERE id = ?`,
				text.Draw(r, "summary"), rapid.Int64().Draw(r, "seen"), rapid.SampledFrom([]any{nil, "{}"}).Draw(r, "profile"), ann.ID)
			if err != nil {
				return err
			}
			return tx.exec(`DELETE FROM message WHERE mesh_id = ? AND seq % 3 = ?`, ann.MeshID, rapid.IntRange(0, 5).Draw(r, "pruned"))
		}))
		first := exportOf(t, db, ann.MeshID, true)
		_, err := target.Import(t.Context(), strings.NewReader(first), "")
		must(t, err)
		if second := exportOf(t, target, ann.MeshID, true); second != first {
			r.Fatalf("first:\n%s\nsecond:\n%s", first, second)
		}
	})
}

func TestImportRefuses(t *testing.T) {
	db, meshID := populated(t)
	text := exportOf(t, db, meshID, true)
	target, _ := newDB(t) // has a mesh "home" of its own
	stranger := addMember(t, target, func() string { m, _ := target.MeshBySlug(t.Context(), "home"); return m.ID }(), "stranger")
	strangers, _, err := target.Topic(t.Context(), stranger.MeshID, "", "general")
	must(t, err)
	lines := strings.SplitAfter(text, "\n")
	lineOf := func(kind string) int {
		return 1 + slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, `{"kind":"`+kind+`"`) })
	}
	// changed is the export with a pattern replaced in the first line of a kind.
	changed := func(kind, pattern, by string) string {
		n := lineOf(kind) - 1
		line := regexp.MustCompile(pattern).ReplaceAllString(lines[n], by)
		if line == lines[n] {
			t.Fatalf("there is no %s in %s", pattern, line)
		}
		return strings.Join(lines[:n], "") + line + strings.Join(lines[n+1:], "")
	}
	for name, tt := range map[string]struct {
		text, name string
		line       int
		says       string
	}{
		"empty":               {"", "x", 1, "the end is missing"},
		"garbage":             {"hello\n", "x", 1, "this is no export of a mesh"},
		"other JSON":          {"{}\n", "x", 1, "this is no export of a mesh"},
		"newer":               {strings.Replace(text, `"schema":`, `"schema":9`, 1), "x", 1, "newer meshbox"},
		"name taken":          {text, "", 2, `another mesh called "home" exists already; choose a name with --name`},
		"cut off":             {strings.Join(lines[:20], ""), "x", 21, "the end is missing: the file was cut off"},
		"cut within":          {strings.Join(lines[:20], "")[:2000], "x", 0, "no JSON object"},
		"a line missing":      {strings.Join(slices.Delete(slices.Clone(lines), 4, 5), ""), "x", 0, ""},
		"something more":      {text + "{}\n", "x", len(lines), "more after the end"},
		"garbage within":      {strings.Join(lines[:9], "") + "garbage\n", "x", 10, "this is no JSON object"},
		"two in a line":       {strings.Join(lines[:9], "") + `{"kind":"end"} {}` + "\n", "x", 10, "more than one"},
		"unknown kind":        {strings.Join(lines[:9], "") + `{"kind":"setting","row":{"key":"public_url","value":"x"}}` + "\n", "x", 10, `the kind "setting" is not known`},
		"wrong order":         {strings.Join(lines[:len(lines)-2], "") + lines[lineOf("member")-1], "x", len(lines) - 1, "can not stand here"},
		"mesh twice":          {strings.Join(lines[:2], "") + lines[1], "x", 3, "can not stand here"},
		"no mesh":             {lines[0] + `{"kind":"end","lines":0}` + "\n", "x", 0, "there is no mesh"},
		"another field":       {strings.Join(lines[:9], "") + `{"kind":"member","rows":{}}` + "\n", "x", 10, "no JSON object with kind and row"},
		"unknown column":      {changed("member", `"role":`, `"rank":1,"role":`), "x", lineOf("member"), `a member has no "rank"`},
		"mesh id":             {changed("member", `"role":`, `"mesh_id":"x","role":`), "x", lineOf("member"), `a member has no "mesh_id"`},
		"column missing":      {changed("member", `"display_name":"[a-z]*",`, ""), "x", lineOf("member"), "there is no display_name"},
		"wrong type":          {changed("member", `"display_name":"[a-z]*"`, `"display_name":7`), "x", lineOf("member"), "display_name has the wrong type"},
		"no base64":           {changed("mesh", `"owner_seed":"A`, `"owner_seed":"!`), "x", 2, "owner_seed is no base64"},
		"short key":           {changed("mesh", `"owner_seed":"[^"]*"`, `"owner_seed":"AAAA"`), "x", 2, "it is no mesh that can be"},
		"role":                {changed("member", `"role":"member"`, `"role":"king"`), "x", lineOf("member"), "it is no member that can be"},
		"fraction":            {changed("member", `"joined_at":`, `"joined_at":1.5`), "x", lineOf("member"), "joined_at is no whole number"},
		"place ahead":         {changed("topic_member", `"read_seq":\d+`, `"read_seq":30`), "x", lineOf("topic_member"), "read_seq is 30, and there are 29 messages"},
		"number":              {changed("message", `"seq":1`, `"seq":2`), "x", lineOf("message"), "seq is 2, and the next message is 1"},
		"delivery of none":    {changed("delivery", `"seq":\d+`, `"seq":0`), "x", lineOf("delivery"), "seq is 0"},
		"chain":               {changed("audit", `"actor":"`, `"actor":"x`), "x", 0, "the audit chain of the mesh"},
		"member elsewhere":    {changed("delivery", `"member_id":"[^"]*"`, `"member_id":"`+stranger.ID+`"`), "x", lineOf("delivery"), "it names a member"},
		"key elsewhere":       {changed("api_key", `"member_id":"[^"]*"`, `"member_id":"`+stranger.ID+`"`), "x", lineOf("api_key"), "it names a member"},
		"owner elsewhere":     {changed("mesh", `"owner_member_id":"[^"]*"`, `"owner_member_id":"`+stranger.ID+`"`), "x", 2, "it names a member"},
		"topic elsewhere":     {changed("message", `"topic_id":("[^"]*"|null)`, `"topic_id":"`+strangers.ID+`"`), "x", lineOf("message"), "it names a topic"},
		"member not here":     {changed("topic_member", `"member_id":"[^"]*"`, `"member_id":"nobody"`), "x", lineOf("topic_member"), "it names a member"},
		"general missing":     {changed("topic", `"name":"general"`, `"name":"private"`), "x", 0, "has no topic #general"},
		"mesh name":           {changed("mesh", `"slug":"home"`, `"slug":"HOME"`), "x", 2, "no name that a mesh can have"},
		"value twice":         {strings.Join(lines[:lineOf("member")], "") + lines[lineOf("member")-1], "x", lineOf("member") + 1, "exists"},
		"no line, but null":   {strings.Join(lines[:9], "") + "null\n", "x", 10, `the kind "" is not known`},
		"longer than allowed": {lines[0] + strings.Repeat(" ", maxLine+1), "x", 2, "it is longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			before := contents(t, target)
			_, err := target.Import(t.Context(), strings.NewReader(tt.text), tt.name)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("err = %v, want one sentence with %q", err, tt.says)
			}
			if onLine, ok := errors.AsType[*LineError](err); tt.line > 0 && (!ok || onLine.Line != tt.line) {
				t.Errorf("err = %v, want line %d", err, tt.line)
			}
			if contents(t, target) != before {
				t.Error("something was stored")
			}
		})
	}
	_, err = target.Import(t.Context(), strings.NewReader(text), "attic")
	must(t, err)
	if _, err = target.Import(t.Context(), strings.NewReader(text), "again"); !errors.Is(err, ErrExists) {
		t.Errorf("a second time: %v", err)
	}
}

// A column that an older export does not know gets its default.
func TestImportOfAnOlderExport(t *testing.T) {
	db, meshID := populated(t)
	text := exportOf(t, db, meshID, true)
	older := regexp.MustCompile(`"(visible|since_seq|delivered_at)":(\d+|null),?`).ReplaceAllString(text, "")
	older = strings.ReplaceAll(older, ",}", "}")
	older = strings.Replace(older, fmt.Sprintf(`"schema":%d`, SchemaVersion), `"schema":5`, 1)
	fresh := elsewhere(t)
	_, err := fresh.Import(t.Context(), strings.NewReader(older), "")
	must(t, err)
	mustCheck(t, fresh.Path())
}

// Each line is JSON with its kind first, as README says.
func TestExportIsJSONLines(t *testing.T) {
	db, meshID := populated(t)
	for line := range strings.Lines(exportOf(t, db, meshID, true)) {
		if !json.Valid([]byte(line)) || !strings.HasPrefix(line, `{"kind":"`) {
			t.Errorf("line %q", line)
		}
	}
}
