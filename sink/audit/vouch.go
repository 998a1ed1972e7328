package audit

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// Vouch signs a text of the landing zone's own, lines that end in a line feed, with the key that its checkpoints are
// signed with. It returns the signed note. What kind of text it is must be said by its first line, which must not be
// that of a checkpoint.
func (c *Checkpoints) Vouch(ctx context.Context, text string) ([]byte, error) {
	c.write.Lock()
	defer c.write.Unlock()
	err := c.open(ctx)
	if err == nil && c.head.generation == 0 {
		err = c.append(ctx, nil) // nothing was signed yet: the first key vouches for itself
	}
	if err != nil {
		c.head = nil
		return nil, fmt.Errorf("sign: %w", err)
	}
	signer, err := c.signer(ctx, c.head.signing())
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return note.Sign(&note.Note{Text: text}, signer)
}

// Vouched returns the text of a note that Vouch signed, with the present key or a former one. Keys that no checkpoint
// vouches for do not count: whoever may write to the zone can have put them there. The error wraps ErrForged where
// the note is not signed, or by somebody else.
func (c *Checkpoints) Vouched(ctx context.Context, signed []byte) (string, error) {
	c.write.Lock()
	defer c.write.Unlock()
	c.head = nil // others may have renewed the key since
	if err := c.open(ctx); err != nil {
		return "", fmt.Errorf("signature: %w", err)
	}
	var known []note.Verifier
	for _, key := range c.keys[:min(c.head.generation, len(c.keys))] {
		known = append(known, key)
	}
	opened, err := note.Open(signed, note.VerifierList(known...))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrForged, err)
	}
	return opened.Text, nil
}
