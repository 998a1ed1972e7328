package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tasterhq/taster/sink/envelope"
)

// AWS is a symmetric key of AWS KMS. The zone is the member taster_zone of the encryption context, and the wrapped
// text is the base64 of the CiphertextBlob.
type AWS struct {
	client *kms.Client
	key    string
}

// NewAWS makes one of a client and a key id, alias or ARN.
func NewAWS(client *kms.Client, key string) *AWS { return &AWS{client: client, key: key} }

func openAWS(ctx context.Context, key envelope.KeyURL) (*AWS, error) {
	options := []func(*config.LoadOptions) error{config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} })}
	region := key.Params.Get("region")
	if name, err := arn.Parse(key.Key); err == nil && region == "" {
		region = name.Region
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	if profile := key.Params.Get("profile"); profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: AWS: %w", envelope.ErrConfig, err)
	}
	if loaded.Region == "" {
		return nil, fmt.Errorf("%w: AWS: no region; put ?region=REGION behind the key", envelope.ErrConfig)
	}
	client := kms.NewFromConfig(loaded, func(o *kms.Options) {
		if endpoint := key.Params.Get("endpoint"); endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	return NewAWS(client, key.Key), nil
}

// WrapKey implements envelope.KMS.
func (a *AWS) WrapKey(ctx context.Context, key []byte, masterKeyID string) (string, error) {
	out, err := a.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &a.key, Plaintext: key, EncryptionContext: awsContext(masterKeyID)})
	if err != nil {
		return "", awsFault(err).explain(masterKeyID, key)
	}
	return base64.StdEncoding.EncodeToString(out.CiphertextBlob), nil
}

// UnwrapKey implements envelope.KMS. The key must be the one that wrapped, unless an alias names it: an alias may point
// to a new key meanwhile, and what was wrapped tells the service by which key.
func (a *AWS) UnwrapKey(ctx context.Context, wrapped string, masterKeyID string) ([]byte, error) {
	blob, err := base64.StdEncoding.DecodeString(wrapped)
	if err != nil {
		return nil, fault{is: envelope.ErrWrongKey, detail: errWrapped}.explain(masterKeyID)
	}
	in := &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: awsContext(masterKeyID)}
	if !strings.HasPrefix(a.key, "alias/") && !strings.Contains(a.key, ":alias/") {
		in.KeyId = &a.key
	}
	out, err := a.client.Decrypt(ctx, in)
	if err != nil {
		return nil, awsFault(err).explain(masterKeyID)
	}
	return out.Plaintext, nil
}

func awsContext(masterKeyID string) map[string]string {
	if _, zone := envelope.SplitZone(masterKeyID); zone != "" {
		return map[string]string{envelope.ContextKey: string(zone)}
	}
	return nil
}

// awsFault sorts the errors of Encrypt and Decrypt, https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html,
// and the common ones.
func awsFault(err error) fault {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		var sent *smithyhttp.RequestSendError
		if errors.As(err, &sent) {
			return fault{is: envelope.ErrUnavailable, detail: sent.Err.Error()}
		}
		var signing *smithy.OperationError
		if errors.As(err, &signing) && strings.Contains(err.Error(), "credentials") {
			return fault{is: envelope.ErrUnavailable, detail: "no credentials: " + signing.Err.Error()}
		}
		return unreached(err)
	}
	f := fault{is: envelope.ErrConfig, detail: answer.ErrorCode() + ": " + answer.ErrorMessage()}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		f.after = retryAfter(response.Response.Header)
		if transient(response.HTTPStatusCode()) {
			f.is = envelope.ErrUnavailable
		}
	}
	switch answer.ErrorCode() {
	case "NotFoundException":
		f.is = envelope.ErrNoKey
	case "AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
		"IncompleteSignature", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "ExpiredTokenException",
		"NotAuthorized", "OptInRequired", "InvalidGrantTokenException":
		f.is = envelope.ErrDenied
	case "DisabledException", "KMSInvalidStateException":
		f.is = envelope.ErrDisabled
	case "InvalidCiphertextException", "IncorrectKeyException":
		f.is = envelope.ErrWrongKey
		f.detail = strings.TrimSuffix(f.detail, ": ")
	case "ThrottlingException", "LimitExceededException", "RequestLimitExceeded", "KMSInternalException", "DependencyTimeoutException",
		"KeyUnavailableException", "ServiceUnavailableException", "InternalFailure":
		f.is = envelope.ErrUnavailable
	}
	return f
}
