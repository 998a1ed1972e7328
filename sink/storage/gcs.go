package storage

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	gcs "cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
)

// gcsBucket speaks to Google Cloud Storage by its own client. gocloud.dev's opener prints to standard output when there
// are no credentials, and knows no other endpoint.
//
// Conditional writes: ifGenerationMatch=0 on uploads, resumable ones too,
// https://docs.cloud.google.com/storage/docs/request-preconditions
//
// An upload that is given up holds no space: its session ends by itself within a week.
type gcsBucket struct {
	handle *gcs.BucketHandle
	name   string
}

func openGCS(ctx context.Context, at location) (bucket, error) {
	// What ctx says must not end the client's tokens: ctx may be over when the landing zone is still in use.
	ctx = context.WithoutCancel(ctx)
	var options []option.ClientOption
	if anonymous, _ := strconv.ParseBool(at.query.Get("anonymous")); anonymous {
		options = append(options, option.WithoutAuthentication())
	}
	if endpoint := at.query.Get("endpoint"); endpoint != "" {
		options = append(options, option.WithEndpoint(endpoint))
	}
	if domain := at.query.Get("universe_domain"); domain != "" {
		options = append(options, option.WithUniverseDomain(domain))
	}
	client, err := gcs.NewClient(ctx, append(options, gcs.WithDisabledClientMetrics())...)
	if err != nil {
		if os.Getenv("GOOGLE_APPLICATION_CREDENTIALS") == "" {
			return nil, errors.New("no credentials: set GOOGLE_APPLICATION_CREDENTIALS, run gcloud auth application-default login, or run with a service account")
		}
		return nil, errors.New(oneLine(err.Error()))
	}
	// Every write is conditional or may be repeated, so all is repeated; also when a connection was closed without an answer.
	client.SetRetry(gcs.WithPolicy(gcs.RetryAlways), gcs.WithMaxAttempts(requestAttempts),
		gcs.WithErrorFunc(func(err error) bool { return gcs.ShouldRetry(err) || errors.Is(err, io.EOF) }),
		gcs.WithBackoff(gax.Backoff{Initial: 200 * time.Millisecond, Max: lastWait, Multiplier: 2}))
	return &gcsBucket{client.Bucket(at.bucket), at.bucket}, nil
}

// newWriter begins an upload that ends when its context is cancelled. chunk is what the client keeps in memory, to
// repeat it, and sends at a time; what is smaller goes in one request.
func (g *gcsBucket) newWriter(ctx context.Context, key, writer string, chunk int, absent bool) *gcs.Writer {
	o := g.handle.Object(key)
	if absent {
		o = o.If(gcs.Conditions{DoesNotExist: true})
	}
	w := o.NewWriter(ctx)
	w.ChunkSize = chunk
	w.ContentType = "application/octet-stream"
	w.Metadata = map[string]string{writerKey: writer}
	return w
}

// chunkSize is what the sizes of chunks must be multiples of.
const chunkSize = 256 << 10

func (g *gcsBucket) put(ctx context.Context, key, writer string, data []byte, absent bool) error {
	w := g.newWriter(ctx, key, writer, (len(data)/chunkSize+1)*chunkSize, absent)
	if _, err := w.Write(data); err != nil {
		_ = w.Close()
		return err
	}
	return w.Close()
}

func (g *gcsBucket) writer(ctx context.Context, key string) (string, error) {
	a, err := g.handle.Object(key).Attrs(ctx)
	if err != nil {
		return "", err
	}
	return a.Metadata[writerKey], nil
}

func (g *gcsBucket) get(ctx context.Context, key, version string, p []byte, offset int64) (got, error) {
	o := g.handle.Object(key).ReadCompressed(true) // the bytes as stored
	if version != "" {
		generation, err := strconv.ParseInt(version, 10, 64)
		if err != nil {
			return got{}, err
		}
		o = o.Generation(generation)
	}
	r, err := o.NewRangeReader(ctx, offset, int64(len(p)))
	if err != nil {
		return got{}, err
	}
	defer r.Close()
	result := got{size: r.Attrs.Size, version: strconv.FormatInt(r.Attrs.Generation, 10), written: r.Attrs.LastModified}
	result.n, err = io.ReadFull(r, p[:max(0, min(int64(len(p)), result.size-offset))])
	return result, err
}

func (g *gcsBucket) list(ctx context.Context, prefix, token string) ([]listed, string, error) {
	query := &gcs.Query{Prefix: prefix, Projection: gcs.ProjectionNoACL}
	if err := query.SetAttrSelection([]string{"Name", "Size", "Updated", "Generation"}); err != nil {
		return nil, "", err
	}
	var objects []*gcs.ObjectAttrs
	next, err := iterator.NewPager(g.handle.Objects(ctx, query), pageSize, token).NextPage(&objects)
	if err != nil {
		return nil, "", err
	}
	page := make([]listed, len(objects))
	for i, o := range objects {
		page[i] = listed{o.Name, o.Size, o.Updated, strconv.FormatInt(o.Generation, 10)}
	}
	return page, next, nil
}

func (g *gcsBucket) delete(ctx context.Context, key string) error {
	return g.handle.Object(key).Delete(ctx)
}

func (g *gcsBucket) begin(ctx context.Context, key, writer string) (upload, error) {
	u := &gcsUpload{g: g}
	// The upload outlives this request; part and complete say for how long.
	ctx, u.cancel = context.WithCancel(context.WithoutCancel(ctx))
	u.w = g.newWriter(ctx, key, writer, chunkSize, true)
	return u, nil
}

type gcsUpload struct {
	g      *gcsBucket
	w      *gcs.Writer
	cancel context.CancelFunc
	size   int64
	crc    uint32 // CRC-32C
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errSession says that an upload's session, or the whole bucket, is not there any more.
var errSession = errors.New("the upload has ended")

func inSession(err error) error {
	var response *googleapi.Error
	if errors.As(err, &response) && (response.Code == http.StatusNotFound || response.Code == http.StatusGone) {
		return errSession
	}
	return err
}

func (u *gcsUpload) part(ctx context.Context, number int, data []byte) error {
	if number == 1 { // so that even a little more than a chunk goes by a session, as the probe wants
		u.w.ChunkSize = min(max(len(data)/chunkSize, 1)*chunkSize, 4<<20)
	}
	defer context.AfterFunc(ctx, u.cancel)()
	u.size += int64(len(data))
	u.crc = crc32.Update(u.crc, castagnoli, data)
	_, err := u.w.Write(data)
	return inSession(err)
}

// complete compares what is there with what was sent: a piece that was sent again because its answer was lost must not
// be there twice, and a store that speaks like Google's may not see to that.
func (u *gcsUpload) complete(ctx context.Context) error {
	defer u.cancel()
	defer context.AfterFunc(ctx, u.cancel)()
	if err := u.w.Close(); err != nil {
		return inSession(err)
	}
	a := u.w.Attrs()
	if a.Size == u.size && a.CRC32C == u.crc {
		return nil
	}
	if err := u.g.handle.Object(a.Name).If(gcs.Conditions{GenerationMatch: a.Generation}).Delete(ctx); err != nil {
		return err
	}
	return fmt.Errorf("the store has put together %d bytes out of the %d that were sent; the object is deleted again", a.Size, u.size)
}

func (u *gcsUpload) abort(context.Context) error {
	u.cancel()
	_ = u.w.Close() // ends its goroutine, and says that it was cancelled
	return nil
}

// explain goes by the status. https://docs.cloud.google.com/storage/docs/json_api/v1/status-codes
func (g *gcsBucket) explain(err error) (meaning, string) {
	noBucket := fmt.Sprintf("there is no bucket %q: make it, or correct the URL", g.name)
	switch {
	case errors.Is(err, gcs.ErrBucketNotExist):
		return refused, noBucket
	case errors.Is(err, gcs.ErrObjectNotExist):
		return missing, ErrNotExist.Error()
	case errors.Is(err, errSession):
		return vanished, err.Error()
	}
	var response *googleapi.Error
	if !errors.As(err, &response) {
		return network(err)
	}
	said := answer(strconv.Itoa(response.Code), orElse(response.Message, http.StatusText(response.Code)))
	reason := ""
	if len(response.Errors) > 0 {
		reason = response.Errors[0].Reason
	}
	switch {
	case response.Code == http.StatusNotFound: // reading and deleting have errors of their own
		return refused, noBucket
	case reason == "rateLimitExceeded", reason == "userRateLimitExceeded":
		return unavailable, said
	case response.Code == http.StatusUnauthorized:
		return refused, said + ": correct or renew the credentials (GOOGLE_APPLICATION_CREDENTIALS)"
	case response.Code == http.StatusForbidden:
		return refused, said + ": the credentials lack a right to the bucket (docs/storage.md lists those that are needed)"
	}
	return byStatus(response.Code, said, err)
}
