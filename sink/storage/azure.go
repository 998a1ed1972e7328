package storage

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob/azureblob"
)

// azureBucket speaks to Azure Blob Storage by its own client, which gocloud.dev's opener has set up: azureblob 0.47
// panics when a streamed write that must not overwrite loses.
//
// Conditional writes: If-None-Match: * on Put Blob and on Put Block List,
// https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations
//
// Blocks that no list commits cannot be deleted by a client. The service drops them a week after the last of them was
// written, and when the name's next writer commits.
type azureBucket struct {
	client *container.Client
	name   string
}

func openAzure(ctx context.Context, at location) (bucket, error) {
	service := azureblob.NewDefaultServiceURLOptions()
	if service.SASToken != "" {
		for _, origin := range []string{"domain", "protocol", "localemu", "cdn", "storage_account"} {
			if at.query.Has(origin) {
				return nil, fmt.Errorf("%s stands in the URL and AZURE_STORAGE_SAS_TOKEN is set: a URL must not send the token elsewhere, use AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_DOMAIN", origin)
			}
		}
	}
	opener := azureblob.URLOpener{MakeClient: azureblob.NewDefaultClient, ServiceURLOptions: *service}
	opened, err := opener.OpenBucketURL(ctx, at.bucketURL())
	if err != nil {
		if service.AccountName == "" && !at.query.Has("storage_account") {
			return nil, errors.New("no storage account is given: set AZURE_STORAGE_ACCOUNT, or add ?storage_account=… to the URL")
		}
		return nil, errors.New(oneLine(err.Error()))
	}
	defer opened.Close()
	a := &azureBucket{name: at.bucket}
	if !opened.As(&a.client) {
		return nil, errors.New("the Azure client cannot be reached")
	}
	return a, nil
}

// retrying bounds what the client repeats by itself.
func retrying(ctx context.Context) context.Context {
	return policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: requestAttempts - 1, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: lastWait})
}

func absentOnly() *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
}

func (a *azureBucket) put(ctx context.Context, key, writer string, data []byte, absent bool) error {
	options := &blockblob.UploadOptions{Metadata: map[string]*string{writerKey: &writer}}
	if absent {
		options.AccessConditions = absentOnly()
	}
	_, err := a.client.NewBlockBlobClient(key).Upload(retrying(ctx), streaming.NopCloser(bytes.NewReader(data)), options)
	if !absent || !bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet) {
		return err
	}
	// Azurite takes the blocks of an upload that was given up for a blob, though only when the whole is put at one go.
	if _, missing := a.writer(ctx, key); !bloberror.HasCode(missing, bloberror.BlobNotFound) {
		return err
	}
	u := &azureUpload{client: a.client.NewBlockBlobClient(key), writer: writer}
	if err := u.part(ctx, 1, data); err != nil {
		return err
	}
	return u.complete(ctx)
}

func (a *azureBucket) writer(ctx context.Context, key string) (string, error) {
	p, err := a.client.NewBlobClient(key).GetProperties(retrying(ctx), nil)
	if err != nil {
		return "", err
	}
	for name, value := range p.Metadata {
		if strings.EqualFold(name, writerKey) && value != nil { // Go spells header names with a capital
			return *value, nil
		}
	}
	return "", nil
}

func (a *azureBucket) get(ctx context.Context, key, version string, p []byte, offset int64) (got, error) {
	options := &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset, Count: int64(len(p))}}
	if version != "" {
		tag := azcore.ETag(version)
		options.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &tag}}
	}
	out, err := a.client.NewBlobClient(key).DownloadStream(retrying(ctx), options)
	if err != nil {
		return got{}, err
	}
	defer out.Body.Close()
	var g got
	if out.ContentLength != nil {
		g.size = *out.ContentLength
	}
	if out.ETag != nil {
		g.version = string(*out.ETag)
	}
	if out.LastModified != nil {
		g.written = *out.LastModified
	}
	if r := out.ContentRange; r != nil { // bytes 0-9/1234
		if g.size, err = strconv.ParseInt((*r)[strings.LastIndexByte(*r, '/')+1:], 10, 64); err != nil {
			return got{}, fmt.Errorf("the answer has the range %q", *r)
		}
	}
	g.n, err = io.ReadFull(out.Body, p[:max(0, min(int64(len(p)), g.size-offset))])
	return g, err
}

func (a *azureBucket) list(ctx context.Context, prefix, token string) ([]listed, string, error) {
	options := &container.ListBlobsFlatOptions{Prefix: &prefix, MaxResults: to.Ptr(int32(pageSize))}
	if token != "" {
		options.Marker = &token
	}
	out, err := a.client.NewListBlobsFlatPager(options).NextPage(retrying(ctx))
	if err != nil {
		return nil, "", err
	}
	var page []listed
	for _, item := range out.Segment.BlobItems {
		o := listed{key: *item.Name}
		if p := item.Properties; p != nil {
			if p.ContentLength != nil {
				o.size = *p.ContentLength
			}
			if p.LastModified != nil {
				o.modified = *p.LastModified
			}
			if p.ETag != nil {
				o.version = string(*p.ETag)
			}
		}
		page = append(page, o)
	}
	if out.NextMarker == nil {
		return page, "", nil
	}
	return page, *out.NextMarker, nil
}

func (a *azureBucket) delete(ctx context.Context, key string) error {
	_, err := a.client.NewBlobClient(key).Delete(retrying(ctx), nil)
	return err
}

func (a *azureBucket) begin(_ context.Context, key, writer string) (upload, error) {
	return &azureUpload{client: a.client.NewBlockBlobClient(key), writer: writer}, nil
}

type azureUpload struct {
	client *blockblob.Client
	writer string
	blocks []string
}

// part stages a block. Writers of one name share its uncommitted blocks, hence the writer's id in the block's; all ids
// must be of one length.
func (u *azureUpload) part(ctx context.Context, number int, data []byte) error {
	raw, _ := hex.DecodeString(u.writer)
	id := base64.StdEncoding.EncodeToString(fmt.Appendf(raw, "%06d", number))
	if _, err := u.client.StageBlock(retrying(ctx), id, streaming.NopCloser(bytes.NewReader(data)), nil); err != nil {
		return err
	}
	u.blocks = append(u.blocks, id)
	return nil
}

func (u *azureUpload) complete(ctx context.Context) error {
	_, err := u.client.CommitBlockList(retrying(ctx), u.blocks, &blockblob.CommitBlockListOptions{
		AccessConditions: absentOnly(), Metadata: map[string]*string{writerKey: &u.writer},
	})
	return err
}

func (u *azureUpload) abort(context.Context) error { return nil } // see azureBucket

// explain goes by the error code. https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
func (a *azureBucket) explain(err error) (meaning, string) {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return network(err)
	}
	said := orElse(response.ErrorCode, answer(strconv.Itoa(response.StatusCode), http.StatusText(response.StatusCode)))
	switch bloberror.Code(response.ErrorCode) {
	case bloberror.BlobAlreadyExists, bloberror.ConditionNotMet:
		return taken, ErrExists.Error()
	case bloberror.BlobNotFound:
		return missing, ErrNotExist.Error()
	case bloberror.InvalidRange:
		return beyond, said
	case bloberror.InvalidBlockList:
		return vanished, said + ": another writer of the name has committed"
	case bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted, bloberror.ContainerDisabled:
		return refused, fmt.Sprintf("%s: there is no container %q: make it, or correct the URL", said, a.name)
	case bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo, bloberror.NoAuthenticationInformation:
		return refused, said + ": correct or renew the credentials (AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or a managed identity), and look at this machine's clock"
	case bloberror.AuthorizationFailure, bloberror.AuthorizationPermissionMismatch, bloberror.AuthorizationProtocolMismatch,
		bloberror.AuthorizationResourceTypeMismatch, bloberror.AuthorizationServiceMismatch, bloberror.AuthorizationSourceIPMismatch,
		bloberror.InsufficientAccountPermissions, bloberror.UnauthorizedBlobOverwrite:
		return refused, said + ": the credentials lack a right to the container (docs/storage.md lists those that are needed)"
	}
	if response.StatusCode == http.StatusConflict || response.StatusCode == http.StatusPreconditionFailed {
		return refused, said // leases, immutability policies, snapshots
	}
	return byStatus(response.StatusCode, said, err)
}
