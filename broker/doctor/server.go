package doctor

import (
	"context"
	"errors"
	"syscall"

	"meshbox/broker/store"
)

// server finds out whether a server has the data file, whether one answers where it
// should listen, and whether that is this program.
func (x *examination) server(ctx context.Context) {
	served, err := false, error(nil)
	if x.there() {
		served, err = store.Served(x.DB)
		if err != nil {
			x.warn("run this as the user whose server it is, or with sudo", "whether a server uses the data file is not known: %s", err)
		}
	}
	x.served = served
	address, err := Reachable(x.Listen)
	if err != nil {
		what, remedy := sentence(err)
		x.fail(remedy, "--listen %s", what)
		return
	}
	answer, err := Probe(ctx, address, "/health")
	_, foreign := errors.AsType[*NotMeshbox](err)
	switch {
	case err == nil:
		x.running = true
		x.judgeAnswer(address, answer)
	case served && foreign:
		x.fail("name where it listens with --listen", "a server uses the data file, but something else answers at %s", address)
	case served:
		x.fail("if it listens elsewhere, name that with --listen; else look into its log and start it anew", "a server uses the data file, but does not answer at %s: %s", address, err)
	case foreign:
		x.fail("stop that, or have meshbox listen elsewhere, with --listen", "%s is taken by another program", address)
	case !errors.Is(err, syscall.ECONNREFUSED):
		x.fail("stop what listens there, or have meshbox listen elsewhere, with --listen", "%s takes connections, but no meshbox answers: %s", address, err)
	case x.there() || x.Named:
		x.warn("start it with: "+x.Start, "no server is running at %s", address)
	default:
		x.ok("none is running here")
	}
}

// judgeAnswer looks at what a meshbox said that listens where the server should.
func (x *examination) judgeAnswer(address string, answer Answer) {
	switch {
	case answer.Status != "ok":
		x.fail("look into its log: its data file does not answer", "the server at %s is %s", address, answer.Status)
	case x.there() && !x.served:
		x.warn("name the data file of the running one with --db", "a meshbox answers at %s, but it does not use %s", address, x.DB)
	case x.Version != answer.Version:
		x.warn("start the server anew, if you updated meshbox", "the server at %s is %s, this program is %s", address, answer.Version, x.Version)
	default:
		x.ok("%s answers at %s", answer.Version, address)
	}
}
