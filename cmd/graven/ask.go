package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// question asks the person at the terminal.
type question struct {
	in    io.Reader
	out   io.Writer
	lines chan string // what is typed, once there was a question
}

// ask asks and reads a line, which is empty when there is none; not ok when ctx
// ends first. It stays in that read then, which nobody needs any more.
func (q *question) ask(ctx context.Context, text string) (answer string, ok bool) {
	fmt.Fprint(q.out, text)
	if q.lines == nil {
		q.lines = make(chan string)
		go q.read()
	}
	select {
	case answer = <-q.lines:
		return answer, true
	case <-ctx.Done():
		note(q.out, "")
		return "", false
	}
}

func (q *question) read() {
	in := bufio.NewReader(q.in)
	for {
		text, err := in.ReadString('\n')
		if err != nil {
			close(q.lines) // no line, no answer
			return
		}
		q.lines <- strings.TrimRight(text, "\r\n")
	}
}
