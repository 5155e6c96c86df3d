package fiberbridge

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// spool keeps the files of one form: in memory, and what is beyond that one
// behind the other in a temporary file.
type spool struct {
	// memory is how many bytes may still be kept in memory.
	memory int64

	file *os.File
	end  int64
	// name is the file's where it cannot be removed before it is closed.
	name string
}

// add keeps what r has. open may be called until close.
func (s *spool) add(r io.Reader) (size int64, open func() (io.ReadCloser, error), err error) {
	var buf bytes.Buffer
	// The byte too many tells that r has more.
	size, err = buf.ReadFrom(io.LimitReader(r, s.memory+1))
	if err != nil {
		return 0, nil, malformedForm(err)
	}
	if size <= s.memory {
		s.memory -= size
		kept := buf.Bytes()
		return size, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept)), nil }, nil
	}
	if s.file == nil {
		if s.file, err = os.CreateTemp("", "taskbridge-"); err != nil {
			return 0, nil, internal(err)
		}
		// Without a name it cannot be left behind, whatever becomes of this
		// process. Windows does not remove what is open.
		if os.Remove(s.file.Name()) != nil {
			s.name = s.file.Name()
		}
	}
	begin := s.end
	for _, part := range []io.Reader{&buf, r} {
		from := &readError{r: part}
		n, err := io.Copy(s.file, from)
		s.end += n
		switch {
		case from.err != nil:
			return 0, nil, malformedForm(from.err)
		case err != nil:
			return 0, nil, internal(err)
		}
	}
	size = s.end - begin
	return size, func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(s.file, begin, size)), nil
	}, nil
}

// close gives everything back.
func (s *spool) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.name != "" {
		err = errors.Join(err, os.Remove(s.name))
	}
	return err
}

// readError tells the errors of reading, which are the client's, from those of
// writing.
type readError struct {
	r   io.Reader
	err error
}

func (e *readError) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}
