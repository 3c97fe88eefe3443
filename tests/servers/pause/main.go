// Command pause prints its arguments, one a line, and waits to be told to end. It needs no file beside itself, so that it runs from an
// empty image: as the process that holds a pod together, and as a container that does nothing.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	for _, line := range os.Args[1:] {
		fmt.Println(line)
	}
	<-told
}
