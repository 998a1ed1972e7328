package storage

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// byStatus tells what an answer means of which nothing but the HTTP status is known, or that there was none (0).
func byStatus(status int, said string, err error) (meaning, string) {
	switch {
	case status == 0, status < 300: // no answer, or one that broke off
		return network(err)
	case status == http.StatusPreconditionFailed:
		return taken, ErrExists.Error()
	case status == http.StatusConflict:
		return contended, said
	case status == http.StatusNotFound:
		return missing, ErrNotExist.Error()
	case status == http.StatusRequestedRangeNotSatisfiable:
		return beyond, said
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500 && status != http.StatusNotImplemented:
		return unavailable, said
	}
	return refused, said
}

// network tells what it means that no whole answer came. URLs are left out of the text: they can hold signatures.
func network(err error) (meaning, string) {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	switch {
	case errors.As(err, &certificate):
		return refused, oneLine(certificate.Error()) + ": trust the authority (SSL_CERT_FILE) or correct the endpoint"
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return refused, "the endpoint does not speak TLS: give it as http://…"
	case errors.As(err, &dns) && dns.IsNotFound:
		return unavailable, "there is no host " + dns.Name + ": correct the endpoint or the region, or mend the name service"
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op
	}
	return unavailable, oneLine(err.Error())
}

// answer quotes what a store said.
func answer(code, message string) string {
	if message == "" || message == code {
		return oneLine(code)
	}
	return oneLine(code + " (" + strings.TrimRight(message, ". ") + ")")
}

// oneLine makes a text fit for an error: stores answer with whole documents at times.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
