package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"gocloud.dev/blob/s3blob"
)

// requestAttempts is how often a client makes a request by itself before it gives up.
const requestAttempts = 3

// writerKey is the metadata that holds the id of the write. Azure wants an identifier, and all of them lower case.
const writerKey = "tasterwriter"

// s3Bucket speaks to S3 by its own client, which gocloud.dev's opener has set up: the blob package of the same escapes
// some keys, leaves the parts of a cancelled upload behind, and cannot read one version from several places.
//
// Conditional writes: If-None-Match: * on PutObject and on CompleteMultipartUpload,
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
type s3Bucket struct {
	client *s3.Client
	name   string
	sse    types.ServerSideEncryption
	sseKey *string
}

func openS3(ctx context.Context, at location) (bucket, error) {
	s := &s3Bucket{name: at.bucket}
	if key := at.query.Get("kmskeyid"); key != "" {
		s.sseKey = &key
	}
	for _, known := range s.sse.Values() { // the opener refuses others
		if strings.EqualFold(string(known), at.query.Get("ssetype")) {
			s.sse = known
		}
	}
	opened, err := new(s3blob.URLOpener).OpenBucketURL(ctx, at.bucketURL())
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	var client *s3.Client
	if !opened.As(&client) {
		return nil, errors.New("the S3 client cannot be reached")
	}
	options := client.Options()
	if options.Region == "" {
		return nil, errors.New("no region is given: add ?region=… to the URL or set AWS_REGION")
	}
	options.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = requestAttempts
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			wait := min(200*time.Millisecond<<attempt, lastWait)
			return wait/2 + rand.N(wait/2), nil
		})
		o.Retryables = append(o.Retryables, retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusTooManyRequests: {}}}) // of others than AWS
	})
	options.Logger = logging.Nop{} // standard error is not the client's
	s.client = s3.New(options)
	return s, nil
}

func (s *s3Bucket) put(ctx context.Context, key, writer string, data []byte, absent bool) error {
	in := &s3.PutObjectInput{
		Bucket: &s.name, Key: &key, Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		Metadata: map[string]string{writerKey: writer}, ServerSideEncryption: s.sse, SSEKMSKeyId: s.sseKey,
	}
	if absent {
		in.IfNoneMatch = aws.String("*")
	}
	_, err := s.client.PutObject(ctx, in)
	return err
}

func (s *s3Bucket) writer(ctx context.Context, key string) (string, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.name, Key: &key})
	if err != nil {
		return "", err
	}
	return out.Metadata[writerKey], nil
}

func (s *s3Bucket) get(ctx context.Context, key, version string, p []byte, offset int64) (got, error) {
	in := &s3.GetObjectInput{Bucket: &s.name, Key: &key, Range: aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+int64(len(p))-1))}
	if version != "" {
		in.IfMatch = &version
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return got{}, err
	}
	defer out.Body.Close()
	g := got{size: aws.ToInt64(out.ContentLength), version: aws.ToString(out.ETag), written: aws.ToTime(out.LastModified)}
	if r := aws.ToString(out.ContentRange); r != "" { // bytes 0-9/1234
		if g.size, err = strconv.ParseInt(r[strings.LastIndexByte(r, '/')+1:], 10, 64); err != nil {
			return got{}, fmt.Errorf("the answer has the range %q", r)
		}
	}
	g.n, err = io.ReadFull(out.Body, p[:max(0, min(int64(len(p)), g.size-offset))])
	return g, err
}

func (s *s3Bucket) list(ctx context.Context, prefix, token string) ([]listed, string, error) {
	in := &s3.ListObjectsV2Input{Bucket: &s.name, Prefix: &prefix, MaxKeys: aws.Int32(pageSize)}
	if token != "" {
		in.ContinuationToken = &token
	}
	out, err := s.client.ListObjectsV2(ctx, in)
	if err != nil {
		return nil, "", err
	}
	page := make([]listed, len(out.Contents))
	for i, o := range out.Contents {
		page[i] = listed{aws.ToString(o.Key), aws.ToInt64(o.Size), aws.ToTime(o.LastModified), aws.ToString(o.ETag)}
	}
	if !aws.ToBool(out.IsTruncated) {
		return page, "", nil
	}
	return page, aws.ToString(out.NextContinuationToken), nil
}

func (s *s3Bucket) delete(ctx context.Context, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.name, Key: &key})
	return err
}

func (s *s3Bucket) begin(ctx context.Context, key, writer string) (upload, error) {
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.name, Key: &key, Metadata: map[string]string{writerKey: writer}, ServerSideEncryption: s.sse, SSEKMSKeyId: s.sseKey,
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	})
	if err != nil {
		return nil, err
	}
	return &s3Upload{s: s, key: key, id: aws.ToString(out.UploadId)}, nil
}

type s3Upload struct {
	s       *s3Bucket
	key, id string
	parts   []types.CompletedPart
}

func (u *s3Upload) part(ctx context.Context, number int, data []byte) error {
	out, err := u.s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.s.name, Key: &u.key, UploadId: &u.id, PartNumber: aws.Int32(int32(number)),
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	})
	if err != nil {
		return err
	}
	u.parts = append(u.parts, types.CompletedPart{PartNumber: aws.Int32(int32(number)), ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
	return nil
}

func (u *s3Upload) complete(ctx context.Context) error {
	_, err := u.s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.s.name, Key: &u.key, UploadId: &u.id, IfNoneMatch: aws.String("*"), MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
	})
	return err
}

func (u *s3Upload) abort(ctx context.Context) error {
	_, err := u.s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.s.name, Key: &u.key, UploadId: &u.id})
	return err
}

// sweepUploads aborts unfinished uploads that began before a time.
func (s *s3Bucket) sweepUploads(ctx context.Context, prefix string, before time.Time) error {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.name, Prefix: &prefix}
	for {
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return err
		}
		for _, u := range out.Uploads {
			if !aws.ToTime(u.Initiated).Before(before) {
				continue
			}
			if err := (&s3Upload{s: s, key: aws.ToString(u.Key), id: aws.ToString(u.UploadId)}).abort(ctx); err != nil {
				return err
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// explain goes by the error code, and by the status where an answer has no body (HEAD).
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func (s *s3Bucket) explain(err error) (meaning, string) {
	var api smithy.APIError
	var response *awshttp.ResponseError
	var code, said string
	status := 0
	if errors.As(err, &api) {
		code = api.ErrorCode()
		said = answer(code, api.ErrorMessage())
	}
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
		said = orElse(said, answer(strconv.Itoa(status), http.StatusText(status)))
	}
	switch code {
	case "PreconditionFailed":
		return taken, ErrExists.Error()
	case "ConditionalRequestConflict", "OperationAborted":
		return contended, said
	case "NoSuchUpload":
		return vanished, said
	case "NoSuchKey", "NotFound":
		return missing, ErrNotExist.Error()
	case "InvalidRange":
		return beyond, said
	case "NoSuchBucket":
		return refused, fmt.Sprintf("there is no bucket %q: make it, or correct the URL", s.name)
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden":
		return refused, said + ": the credentials lack a right to the bucket (docs/storage.md lists those that are needed)"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "UnrecognizedClientException":
		return refused, said + ": correct or renew the credentials (AWS_ACCESS_KEY_ID and the like, or the profile or role)"
	case "RequestTimeTooSkewed":
		return refused, said + ": set this machine's clock"
	case "PermanentRedirect", "MovedPermanently", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return refused, said + ": the bucket is in another region, give it with ?region=…"
	case "NotImplemented":
		return refused, said + ": the store lacks what is needed"
	case "SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "InternalError", "ServiceUnavailable":
		return unavailable, said
	}
	if strings.Contains(err.Error(), "get credentials") {
		return refused, "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run with a role"
	}
	return byStatus(status, said, err)
}
