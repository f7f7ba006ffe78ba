package webhook

import (
	"fmt"
	"strings"
)

// event is what is used of GitHub's payloads, and of those of services that send the
// same: https://docs.github.com/en/webhooks/webhook-events-and-payloads
type event struct {
	Action     string `json:"action"`
	Repository struct {
		FullName string `json:"full_name"`
		Stars    int    `json:"stargazers_count"`
	} `json:"repository"`
	Organization struct {
		Login string `json:"login"`
	} `json:"organization"`
	Sender user `json:"sender"`

	// push
	Ref     string   `json:"ref"`
	Created bool     `json:"created"`
	Deleted bool     `json:"deleted"`
	Forced  bool     `json:"forced"`
	Compare string   `json:"compare"`
	Commits []commit `json:"commits"`
	Head    *commit  `json:"head_commit"`

	PullRequest item    `json:"pull_request"`
	Issue       item    `json:"issue"`
	Comment     comment `json:"comment"`
	Review      comment `json:"review"`
	Run         run     `json:"workflow_run"`
	Release     release `json:"release"`
	Zen         string  `json:"zen"` // of a ping
}

type user struct {
	Login string `json:"login"`
}

type commit struct {
	Message string `json:"message"`
}

// item is an issue, or a pull request.
type item struct {
	Number  int    `json:"number"`
	Title   string `json:"title"`
	HTMLURL string `json:"html_url"`
	Merged  bool   `json:"merged"`
	IsPull  *any   `json:"pull_request"` // of the issue that a pull request is, too
}

type comment struct {
	Body    string `json:"body"`
	State   string `json:"state"` // of a review
	HTMLURL string `json:"html_url"`
}

type run struct {
	Name       string `json:"name"`
	Number     int    `json:"run_number"`
	Branch     string `json:"head_branch"`
	Conclusion string `json:"conclusion"`
	HTMLURL    string `json:"html_url"`
}

type release struct {
	Tag     string `json:"tag_name"`
	Name    string `json:"name"`
	HTMLURL string `json:"html_url"`
}

// github shows an event of a kind, such as: **octo/app** ada opened issue #5: Title
func github(kind string, body []byte) (string, error) {
	var e event
	if err := decode(body, &e); err != nil {
		return "", err
	}
	what := ""
	switch kind {
	case "push":
		what = e.push()
	case "pull_request":
		what = e.by(e.pullRequestVerb() + " pull request " + e.PullRequest.line())
	case "pull_request_review":
		what = e.by(e.reviewVerb() + " pull request " + e.PullRequest.line())
	case "issues":
		what = e.by(e.verb() + " issue " + e.Issue.line())
	case "issue_comment":
		what = e.commented()
	case "workflow_run":
		if e.Action != "completed" {
			return "", ErrUnspoken
		}
		what = e.Run.line()
	case "release":
		what = join(": ", e.by(e.verb()+" release "+link(first(label(e.Release.Tag), "(no tag)"), e.Release.HTMLURL)), e.Release.title())
	case "star":
		what = e.star()
	case "ping":
		what = join(": ", "this webhook works", quoted(e.Zen))
	default:
		what, done := label(kind), e.verb()
		if kind == e.Action {
			done = ""
		}
		return "GitHub: " + join(" ", what, done, "in", first(e.where(), "an unnamed place")), nil
	}
	return join(" ", bold(first(e.where(), "GitHub")), what), nil
}

// where is the repository it is about, or the organisation.
func (e *event) where() string {
	return first(label(e.Repository.FullName), label(e.Organization.Login))
}

// by says who did it.
func (e *event) by(what string) string { return first(label(e.Sender.Login), "somebody") + " " + what }

// verb is what was done: "opened", "labeled".
func (e *event) verb() string { return label(strings.ReplaceAll(e.Action, "_", " ")) }

func (e *event) push() string {
	name, isTag := strings.CutPrefix(e.Ref, "refs/tags/")
	name = label(strings.TrimPrefix(name, "refs/heads/"))
	switch {
	case isTag && e.Deleted:
		return e.by("deleted the tag " + name)
	case isTag:
		return e.by("pushed the tag " + name)
	case e.Deleted:
		return e.by("deleted the branch " + name)
	case e.Created && len(e.Commits) == 0:
		return e.by("created the branch " + name)
	}
	verb, count := "pushed", fmt.Sprintf("%d commits", len(e.Commits))
	if e.Forced {
		verb = "force-pushed"
	}
	if len(e.Commits) == 1 {
		count = "1 commit"
	}
	line := e.by(verb + " " + link(count, e.Compare) + " to " + name)
	if e.Head != nil {
		line = join(": ", line, quoted(firstLine(e.Head.Message)))
	}
	return line
}

func (e *event) pullRequestVerb() string {
	switch {
	case e.Action == "closed" && e.PullRequest.Merged:
		return "merged"
	case e.Action == "synchronize":
		return "pushed to"
	}
	return e.verb()
}

func (e *event) reviewVerb() string {
	switch {
	case e.Action != "submitted":
		return e.verb() + " a review of"
	case strings.EqualFold(e.Review.State, "approved"):
		return "approved"
	case strings.EqualFold(e.Review.State, "changes_requested"):
		return "requested changes to"
	}
	return "reviewed"
}

func (e *event) commented() string {
	verb, kind := "commented on", "issue"
	if e.Action != "created" {
		verb = e.verb() + " a comment on"
	}
	if e.Issue.IsPull != nil {
		kind = "pull request"
	}
	item := e.Issue
	item.HTMLURL = first(e.Comment.HTMLURL, item.HTMLURL)
	return join(" – ", e.by(verb+" "+kind+" "+item.line()), quoted(firstLine(e.Comment.Body)))
}

func (e *event) star() string {
	if e.Action == "deleted" {
		return e.by("took back a star")
	}
	return join(" ", e.by("gave a star"), fmt.Sprintf("(%d now)", e.Repository.Stars))
}

// line is such as: #5: Title
func (i *item) line() string {
	return join(": ", link(fmt.Sprintf("#%d", i.Number), i.HTMLURL), quoted(i.Title))
}

// line is such as: CI #7 on main: **failure**
func (r *run) line() string {
	name := link(fmt.Sprintf("%s #%d", first(label(r.Name), "workflow"), r.Number), r.HTMLURL)
	if r.Branch != "" {
		name += " on " + label(r.Branch)
	}
	return name + ": " + bold(first(label(strings.ReplaceAll(r.Conclusion, "_", " ")), "completed"))
}

// title is what a release is called beside its tag.
func (r *release) title() string {
	if r.Name == r.Tag {
		return ""
	}
	return quoted(r.Name)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
