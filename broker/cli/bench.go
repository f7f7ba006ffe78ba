package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/bench"
	"meshbox/broker/peer"
)

// benchFlags are those of the load generator.
type benchFlags struct {
	bench.Options
	invite  string
	preload int
	dir     string
	json    bool
}

// The scenarios that are none of package bench.
const (
	benchStart = "start" // of the process
	benchAll   = "all"
)

// scenarios are the names one may give, in the order in which "all" runs them.
var scenarios = []string{"pairs", "fanout", "handshakes", "pipeline", "idle", benchStart, benchAll}

func (a *app) benchCommand() *cobra.Command {
	f := &benchFlags{}
	names := strings.Join(scenarios, "|")
	c := &cobra.Command{
		Use: "bench [" + names + "]", Short: "Measure how fast a broker is, and whether it keeps its promises",
		Long: `Put a broker under load, and report messages per second, latencies, the memory
and processor time of the server, and whether anything was lost, duplicated or
reordered. Without a scenario it is pairs.

The broker is a private one that is started for each scenario and removed again.
With --invite it is the running one that the link leads to: bench joins its mesh
as bench-1, bench-2… and these members stay in it.`,
		Example: "  meshbox bench\n  meshbox bench fanout --members 100 --json\n  meshbox bench pairs --rate 4000 --duration 30s",
		Args:    arguments(0, 1, "["+names+"]"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.bench(c.Context(), f, append(args, "pairs")[0])
		},
	}
	flags := c.Flags()
	flags.DurationVar(&f.Duration, "duration", 10*time.Second, "how long to measure; idle: how long the memory may take to settle")
	flags.IntVar(&f.Messages, "messages", 0, "instead of a duration: messages in total, posts, handshakes or starts")
	flags.IntVar(&f.Size, "size", 400, "bytes of a message's body")
	flags.Float64Var(&f.Rate, "rate", 0, "pairs and fanout: messages per second in total; 0: as fast as it goes")
	flags.IntVar(&f.Pairs, "pairs", 50, "pairs: how many, each a sender and a recipient")
	flags.IntVar(&f.InFlight, "in-flight", 1, "pairs: messages of one pair under way at a time")
	flags.IntVar(&f.Members, "members", 500, "fanout: connected members of the topic")
	flags.IntVar(&f.Concurrency, "concurrency", 16, "handshakes: how many at a time")
	flags.BoolVar(&f.Session, "session", false, "handshakes: of sessions instead of members")
	flags.IntVar(&f.Batch, "batch", 300, "pipeline: messages sent on one socket without waiting")
	flags.IntVar(&f.Connections, "connections", 10_000, "idle: how many")
	flags.IntVar(&f.Owners, "owners", 1, "idle: members the connections belong to, as sessions")
	flags.IntVar(&f.preload, "preload", 0, "fill the private broker's data file with so many messages first")
	flags.StringVar(&f.dir, "dir", "", "where the private broker keeps its data (default: the folder for temporary files)")
	flags.StringVar(&f.invite, "invite", "", "link to the mesh of a running broker, to be put under load instead of a private one")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return c
}

// check refuses what cannot work, before anything has happened.
func (f *benchFlags) check(scenario string) error {
	switch {
	case !slices.Contains(scenarios, scenario):
		return usagef("there is no scenario %q; there are: %s", scenario, strings.Join(scenarios, ", "))
	case f.Duration < 100*time.Millisecond:
		return usagef("--duration must be at least 100ms")
	case f.Messages < 0 || f.preload < 0:
		return usagef("--messages and --preload must not be negative")
	case f.Size < bench.MinSize || f.Size > 48<<10:
		return usagef("--size must be %d to %d", bench.MinSize, 48<<10)
	case !(f.Rate >= 0 && f.Rate <= 1e6):
		return usagef("--rate must be 0 to 1000000")
	case min(f.Pairs, f.Members, f.Concurrency, f.Batch, f.Connections, f.Owners) < 1:
		return usagef("--pairs, --members, --concurrency, --batch, --connections and --owners must be at least 1")
	case f.InFlight < 1 || f.InFlight > 1000:
		return usagef("--in-flight must be 1 to 1000")
	case f.invite != "" && (f.preload > 0 || scenario == benchStart):
		return usagef("--preload and the scenario start need a private broker; leave --invite away")
	}
	return nil
}

// bench runs a scenario, or all of them, and prints what they found. Broken
// promises of the broker are an error.
func (a *app) bench(ctx context.Context, f *benchFlags, scenario string) error {
	if err := f.check(scenario); err != nil {
		return err
	}
	show := &progress{out: a.err, terminal: isTerminal(a.err), said: time.Now()}
	f.Say = show.say
	b := &benchmark{app: a, flags: f}
	defer b.close()
	var err error
	if scenario == benchAll {
		err = b.all(ctx)
	} else {
		err = b.one(ctx, scenario)
	}
	show.clear()
	if err != nil {
		return err
	}
	if f.json {
		err = printJSON(a.out, b.results)
	} else {
		err = printBench(a.out, b.results)
	}
	return errors.Join(err, verdict(b.results))
}

// benchmark is one run of the command.
type benchmark struct {
	app     *app
	flags   *benchFlags
	folder  string        // of private brokers
	remove  func()        // nil: there is no folder
	filled  string        // the preloaded data file
	fresh   int           // data files made
	running *bench.Target // with --invite
	results []*bench.Result
}

func (b *benchmark) close() {
	if b.remove != nil {
		b.remove()
	}
}

// one runs a scenario. On a file with messages in it, pairs run on an empty one
// too, to compare.
func (b *benchmark) one(ctx context.Context, scenario string) error {
	if scenario == "pairs" && b.flags.preload > 0 {
		return b.compare(ctx)
	}
	_, err := b.run(ctx, scenario, b.flags.Options, b.flags.preload > 0)
	return err
}

// all runs every scenario, the pairs a second time at half the rate they reached.
func (b *benchmark) all(ctx context.Context) error {
	for _, scenario := range scenarios {
		switch {
		case scenario == benchAll, scenario == benchStart && b.flags.invite != "":
			continue
		}
		if err := b.one(ctx, scenario); err != nil {
			return fmt.Errorf("%s: %w", scenario, err)
		}
		o := b.flags.Options
		switch scenario {
		case "pairs":
			o.Rate = b.results[0].PerSecond / 2
		case "handshakes":
			o.Session = !o.Session
		default:
			continue
		}
		if _, err := b.run(ctx, scenario, o, b.flags.preload > 0); err != nil {
			return fmt.Errorf("%s: %w", scenario, err)
		}
	}
	return nil
}

// compare runs pairs on an empty file and on a filled one, each twice and in an
// order that lets a machine that gets slower or faster meanwhile favour neither.
func (b *benchmark) compare(ctx context.Context) error {
	var perSecond [2]float64
	var last *bench.Result
	for _, filled := range []bool{false, true, true, false} {
		r, err := b.run(ctx, "pairs", b.flags.Options, filled)
		if err != nil {
			return err
		}
		if filled {
			perSecond[1] += r.PerSecond
			last = r
		} else {
			perSecond[0] += r.PerSecond
		}
	}
	ratio := perSecond[1] / perSecond[0]
	last.ComparedTo = &ratio
	return nil
}

// run runs one scenario, on the running broker or a private one.
func (b *benchmark) run(ctx context.Context, scenario string, o bench.Options, filled bool) (*bench.Result, error) {
	r, err := b.load(ctx, scenario, o, filled)
	if err != nil {
		return nil, err
	}
	if filled {
		r.Stored = b.flags.preload
	}
	b.results = append(b.results, r)
	return r, nil
}

func (b *benchmark) load(ctx context.Context, scenario string, o bench.Options, filled bool) (*bench.Result, error) {
	if b.flags.invite != "" {
		target, err := b.runningTarget(ctx)
		if err != nil {
			return nil, err
		}
		return bench.Scenarios[scenario](ctx, target, o)
	}
	db, err := b.dataFile(filled)
	if err != nil {
		return nil, err
	}
	if scenario == benchStart {
		return b.starts(ctx, db, o)
	}
	private, err := startPrivate(ctx, db)
	if err != nil {
		return nil, err
	}
	defer private.stop()
	target, err := private.target(ctx)
	if err != nil {
		return nil, err
	}
	r, err := bench.Scenarios[scenario](ctx, target, o)
	if err == nil {
		r.Ready = bench.NewLatency(private.ready)
	}
	return r, err
}

// runningTarget is the broker that --invite leads to.
func (b *benchmark) runningTarget(ctx context.Context) (*bench.Target, error) {
	if b.running != nil {
		return b.running, nil
	}
	invitation, err := peer.Resolve(ctx, b.flags.invite, peer.Trust{})
	if err != nil {
		return nil, err
	}
	base, err := peer.HTTPBase(invitation.BrokerURL)
	if err != nil {
		return nil, err
	}
	b.running = &bench.Target{Invitation: invitation, Usage: bench.Metrics(base)}
	return b.running, nil
}

// dataFile is where a private broker keeps its data: the filled file, or one
// that does not exist yet.
func (b *benchmark) dataFile(filled bool) (path string, err error) {
	if b.folder == "" {
		if b.folder, b.remove, err = benchFolder(b.flags.dir); err != nil {
			return "", err
		}
	}
	if !filled {
		b.fresh++
		return filepath.Join(b.folder, fmt.Sprintf("%d.db", b.fresh)), nil
	}
	if b.filled == "" {
		path = filepath.Join(b.folder, "filled.db")
		if err := b.app.preload(path, b.flags.preload, b.flags.Size, b.flags.Say); err != nil {
			return "", fmt.Errorf("cannot fill a data file: %w", err)
		}
		b.filled = path
	}
	return b.filled, nil
}

// defaultStarts is how often the scenario start starts a broker.
const defaultStarts = 10

// starts measures how long a broker takes from its start until it is ready.
func (b *benchmark) starts(ctx context.Context, db string, o bench.Options) (*bench.Result, error) {
	n := o.Messages
	if n == 0 {
		n = defaultStarts
	}
	var all []time.Duration
	began := time.Now()
	for i := range n {
		o.Say(fmt.Sprintf("start: %d of %d", i, n))
		private, err := startPrivate(ctx, db)
		if err != nil {
			return nil, err
		}
		private.stop()
		all = append(all, private.ready)
	}
	took := time.Since(began).Seconds()
	return &bench.Result{Scenario: benchStart, Seconds: took, PerSecond: float64(n) / took, Unit: "starts", Ready: bench.NewLatency(all...)}, nil
}

// verdict is an error if a broker did not keep its promises.
func verdict(results []*bench.Result) error {
	var broken []string
	for _, r := range results {
		if c := r.Counts; c != nil && !c.Kept() {
			broken = append(broken, fmt.Sprintf("%s: %d acked messages were lost, %d came out of order, %d were not answered", r.Scenario, c.Lost, c.Reordered, c.Unanswered))
		}
		if h := r.Handshakes; h != nil && len(h.Failed) > 0 {
			why := slices.Sorted(maps.Keys(h.Failed))[0]
			broken = append(broken, fmt.Sprintf("%s: some failed: %s", r.Scenario, why))
		}
		if i := r.Idle; i != nil && i.Broken > 0 {
			broken = append(broken, fmt.Sprintf("%s: %d connections did not last", r.Scenario, i.Broken))
		}
	}
	if broken == nil {
		return nil
	}
	return errors.New(strings.Join(broken, "; "))
}

// plainEvery is how often a line of progress is printed where it cannot be
// overwritten.
const plainEvery = 2 * time.Second

// progress shows how far a run is: on a terminal in one line that changes, else
// in lines.
type progress struct {
	out      io.Writer
	terminal bool

	mu    sync.Mutex
	said  time.Time // when it said something last, at first when it began: what is quick says nothing
	shown bool
}

func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	every := plainEvery
	if p.terminal {
		every = 100 * time.Millisecond
	}
	if time.Since(p.said) < every {
		return
	}
	p.said = time.Now()
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", printable(text))
		p.shown = true
	} else {
		fmt.Fprintln(p.out, printable(text))
	}
}

// clear leaves an empty line behind.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}
