package peer

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/identity"
	"meshbox/broker/wire"
)

const (
	helloTimeout   = 10 * time.Second
	requestTimeout = 15 * time.Second
	pushBuffer     = 2048    // pushes that wait for the reader of Pushes: more than the broker sends without an ack, so that the reader may ask something meanwhile
	readLimit      = 1 << 24 // bytes of one frame: 200 messages of history fit
)

// Options say who dials and what it tells of itself.
type Options struct {
	Identity Identity

	// Session, if set, makes the connection a session of the member: it has this
	// key of its own, attested for SessionTTL (default and at most 24 h).
	Session    identity.Key
	SessionTTL time.Duration
	// Former are keys of earlier sessions, for what was sealed for them and waits.
	Former []identity.Key
	// AllowedCaps restricts the session (attestation version 2); nil does not.
	AllowedCaps []string

	// KeepKeys says that the connection is to last: as long as it does, it seals the keys of
	// the member's encrypted topics for other members that have none yet.
	KeepKeys bool

	Client wire.Client // DisplayName and SessionID get defaults
}

// Conn is one greeted connection. It is safe for concurrent use.
type Conn struct {
	Hello wire.HelloAck // what the broker answered

	ws        *websocket.Conn
	key       identity.Key   // the one messages are sealed with: the session's, else the member's
	opens     []identity.Key // besides: what was sealed for one of these can be read, too
	member    identity.Key   // the one topic keys are sealed with and for
	memberID  string
	keys      topicKeys
	sessionID string // what it is listed under
	pushes    chan *wire.Push
	done      chan struct{} // closed when the connection has ended

	mu        sync.Mutex
	waiting   map[string]chan wire.Message // by _reqId, and sends by their id
	following map[string]*follower         // by _reqId, see Follow
	nextID    int
	err       error // why it ended
}

// Rejected says that the broker refused a hello, or ended the connection.
type Rejected struct {
	Code    string // the protocol's error code
	Message string // a sentence for a person
	Close   int    // WebSocket close code
}

func (r *Rejected) Error() string {
	if r.Message == "" {
		return fmt.Sprintf("the broker closed the connection: %d %s", r.Close, r.Code)
	}
	return fmt.Sprintf("the broker refused the connection: %s (%s)", r.Message, r.Code)
}

// Final reports whether trying again with the same identity cannot help.
func (r *Rejected) Final() bool {
	switch r.Code {
	case wire.Capacity, wire.Replayed, wire.Internal, wire.Busy, wire.SlowConsumer, wire.ShuttingDown,
		wire.SessionReplaced, wire.PongTimeout, wire.HelloTimeout, wire.TimestampSkew:
		return false
	}
	return r.Close == wire.ClosePolicy || r.Close == wire.CloseKicked || r.Close == wire.CloseBanned
}

// Dial connects, says hello and waits for its answer. An error of the broker is
// a *Rejected.
//
// Two hellos that one key signs in the same millisecond are the same bytes, and
// the broker takes the second for a replay: then it is said again.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	for {
		c, err := dial(ctx, o)
		if rejected, ok := errors.AsType[*Rejected](err); !ok || rejected.Code != wire.Replayed || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(time.Millisecond + rand.N(5*time.Millisecond))
	}
}

func dial(ctx context.Context, o Options) (*Conn, error) {
	if o.Client.SessionID == "" {
		o.Client.SessionID = cryptorand.Text()
	}
	ws, _, err := websocket.Dial(ctx, o.Identity.BrokerURL, &websocket.DialOptions{HTTPClient: o.Identity.HTTPClient()})
	if err != nil {
		return nil, unreachable(o.Identity.BrokerURL, err)
	}
	ws.SetReadLimit(readLimit)
	c := &Conn{
		ws: ws, key: o.Identity.Key, opens: append([]identity.Key{o.Identity.Key}, o.Former...), sessionID: o.Client.SessionID, pushes: make(chan *wire.Push, pushBuffer), done: make(chan struct{}),
		member: o.Identity.Key, memberID: o.Identity.MemberID, keys: newTopicKeys(o.KeepKeys),
		waiting: map[string]chan wire.Message{}, following: map[string]*follower{},
	}
	if !o.Session.IsZero() {
		c.key = o.Session
	}
	if err := c.greet(ctx, o); err != nil {
		ws.CloseNow()
		return nil, err
	}
	go c.readLoop()
	if o.KeepKeys {
		go c.keepKeys()
	}
	return c, nil
}

// greet says hello and reads until it is answered.
func (c *Conn) greet(ctx context.Context, o Options) error {
	if err := c.ws.Write(ctx, websocket.MessageText, wire.Encode(o.hello(time.Now()), "")); err != nil {
		return fmt.Errorf("cannot say hello: %w", err)
	}
	var refusal *wire.Error
	for {
		m, err := c.read(ctx)
		if err != nil {
			return ended(err, refusal)
		}
		switch m := m.(type) {
		case *wire.HelloAck:
			c.Hello = *m
			return nil
		case *wire.Error:
			refusal = m // the close code follows
		}
	}
}

// ended makes a *Rejected of a close frame and the error frame before it.
func ended(err error, refusal *wire.Error) error {
	r := &Rejected{}
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		r.Code, r.Close = closed.Reason, int(closed.Code)
	} else if refusal == nil {
		return fmt.Errorf("the connection broke: %w", err)
	}
	if refusal != nil {
		r.Code, r.Message = refusal.Code, refusal.Message
	}
	return r
}

// hello is the signed hello of these options.
func (o Options) hello(now time.Time) wire.Message {
	client := o.Client
	if client.DisplayName == "" {
		client.DisplayName = o.Identity.DisplayName
	}
	if client.PeerType == "" {
		client.PeerType = o.Identity.PeerType
	}
	if client.SessionID == "" {
		client.SessionID = cryptorand.Text()
	}
	client.Capabilities = append(client.Capabilities, wire.CapClientAck)
	if o.KeepKeys {
		client.Capabilities = append(client.Capabilities, wire.CapTopicKeys)
	}
	if o.Session.IsZero() {
		signed := identity.Hello{MeshID: o.Identity.MeshID, MemberID: o.Identity.MemberID, PubKey: o.Identity.Key.Public(), Timestamp: float64(now.UnixMilli())}
		signed.Sign(o.Identity.Key)
		return &wire.Hello{
			MeshID: signed.MeshID, MemberID: signed.MemberID, Pubkey: signed.PubKey, Client: client,
			Timestamp: wire.At(now), Signature: signed.Signature,
		}
	}
	return o.sessionHello(client, now)
}

func (o Options) sessionHello(client wire.Client, now time.Time) wire.Message {
	ttl := o.SessionTTL
	if ttl <= 0 || ttl > identity.MaxAttestationTTL {
		ttl = identity.MaxAttestationTTL - time.Minute // room for a clock that is a little off
	}
	vouched := identity.Attestation{
		SessionPubKey: o.Session.Public(), ParentMemberPubKey: o.Identity.Key.Public(),
		ExpiresAt: float64(now.Add(ttl).UnixMilli()), AllowedCaps: o.AllowedCaps,
	}
	if o.AllowedCaps != nil {
		vouched.Version = 2
	}
	vouched.Sign(o.Identity.Key)
	signed := identity.SessionHello{
		MeshID: o.Identity.MeshID, ParentMemberPubKey: vouched.ParentMemberPubKey, SessionPubKey: vouched.SessionPubKey,
		Timestamp: float64(now.UnixMilli()),
	}
	signed.Sign(o.Session)
	return &wire.SessionHello{
		MeshID: signed.MeshID, ParentMemberID: o.Identity.MemberID, ParentMemberPubkey: signed.ParentMemberPubKey,
		SessionPubkey: signed.SessionPubKey, Client: client, Timestamp: wire.At(now), Signature: signed.Signature,
		ParentAttestation: wire.Attestation{
			SessionPubkey: vouched.SessionPubKey, ParentMemberPubkey: vouched.ParentMemberPubKey, ExpiresAt: wire.At(now.Add(ttl)),
			Signature: vouched.Signature, Version: vouched.Version, AllowedCaps: vouched.AllowedCaps,
		},
	}
}

// read returns the next message; frames of a type this program does not know
// are skipped.
func (c *Conn) read(ctx context.Context) (wire.Message, error) {
	m, _, err := c.readReply(ctx)
	return m, err
}

func (c *Conn) readReply(ctx context.Context) (m wire.Message, reqID string, err error) {
	for {
		_, frame, err := c.ws.Read(ctx)
		if err != nil {
			return nil, "", err
		}
		if m, _, reqID, bad := wire.DecodeResponse(frame); bad == nil {
			return m, reqID, nil
		}
	}
}

// readLoop hands out what comes in until the connection ends.
func (c *Conn) readLoop() {
	var refusal *wire.Error
	for {
		m, reqID, err := c.readReply(context.Background())
		if err != nil {
			c.finish(ended(err, refusal))
			return
		}
		switch m := m.(type) {
		case *wire.Push:
			if topic := KeyNews(m); topic != "" {
				c.keys.note(topic)
			}
			select {
			case c.pushes <- m:
			case <-c.done:
			}
		case *wire.DeliveryStatus:
			if !c.tellFollower(reqID, m) {
				c.reply(reqID, "", m)
			}
		case *wire.Ack:
			c.reply(reqID, m.ID, m)
		case *wire.Error:
			if reqID == "" && m.ID == "" {
				refusal = m // not an answer: it announces the end
			}
			c.reply(reqID, m.ID, m)
		default:
			c.reply(reqID, "", m)
		}
	}
}

// reply wakes the request that m answers, if anybody still waits for it.
func (c *Conn) reply(reqID, id string, m wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range []string{reqID, id} {
		if waiter, ok := c.waiting[key]; ok && key != "" {
			delete(c.waiting, key)
			waiter <- m // capacity 1, one answer
			return
		}
	}
}

// finish records why the connection ended; the first reason counts.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
		c.ws.CloseNow()
	}
}

// Pushes delivers what the broker pushes. It is never closed; see Done.
func (c *Conn) Pushes() <-chan *wire.Push { return c.pushes }

// Done is closed when the connection has ended; Err says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives, then why it ended: a *Rejected if the
// broker closed it.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ErrClosed is Err after Close.
var ErrClosed = errors.New("the connection was closed here")

// Close ends the connection.
func (c *Conn) Close() {
	c.mu.Lock()
	live := c.err == nil
	if live {
		c.err = ErrClosed
		close(c.done)
	}
	c.mu.Unlock()
	if live {
		c.ws.Close(websocket.StatusNormalClosure, "")
	}
}

// Key is the public key this connection sends and lists under.
func (c *Conn) Key() string { return c.key.Public() }

// Tell sends a message that has no answer.
func (c *Conn) Tell(ctx context.Context, m wire.Message) error {
	return c.write(ctx, wire.Encode(m, ""))
}

func (c *Conn) write(ctx context.Context, frame []byte) error {
	if err := c.ws.Write(ctx, websocket.MessageText, frame); err != nil {
		c.finish(fmt.Errorf("the connection broke: %w", err)) // unless it is known why
		return c.Err()
	}
	return nil
}

// Request sends m and returns its answer; an error frame comes back as a
// *wire.Error.
func (c *Conn) Request(ctx context.Context, m wire.Message) (wire.Message, error) {
	id, answer := c.wait("")
	return c.exchange(ctx, id, wire.Encode(m, id), answer)
}

// Send sends a message and returns its ack, refused or not. An empty ID gets
// one.
func (c *Conn) Send(ctx context.Context, m wire.Send) (*wire.Ack, error) {
	id, answer := c.wait(m.ID)
	m.ID = id
	reply, err := c.exchange(ctx, id, wire.Encode(&m, ""), answer)
	if err != nil {
		return nil, err
	}
	ack, ok := reply.(*wire.Ack)
	if !ok {
		return nil, fmt.Errorf("the broker answered a send with %s", reply.Type())
	}
	return ack, nil
}

// wait registers interest in the answer to id, a fresh one if that is "".
func (c *Conn) wait(id string) (string, chan wire.Message) {
	answer := make(chan wire.Message, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == "" {
		c.nextID++
		id = fmt.Sprintf("r%d", c.nextID)
	}
	c.waiting[id] = answer
	return id, answer
}

func (c *Conn) exchange(ctx context.Context, id string, frame []byte, answer chan wire.Message) (wire.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.write(ctx, frame); err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		if refused, ok := m.(*wire.Error); ok {
			return nil, refused
		}
		return m, nil
	case <-c.done:
		return nil, c.Err()
	case <-ctx.Done():
		return nil, fmt.Errorf("the broker did not answer: %w", ctx.Err())
	}
}

// Ack tells the broker that a push arrived. System pushes need none.
func (c *Conn) Ack(ctx context.Context, p *wire.Push) error { return c.AckHanded(ctx, p, "") }

// AckHanded is Ack of what was given to an agent, which came to hear of it in one of
// wire.Hearings.
func (c *Conn) AckHanded(ctx context.Context, p *wire.Push, by string) error {
	if p.Subtype == "system" {
		return nil
	}
	return c.Tell(ctx, &wire.ClientAck{ClientMessageID: p.ClientMessageID, BrokerMessageID: p.MessageID, HandedBy: by})
}
