// Checks what a fedseg ledger gives out with Go's own packages for signed notes and transparency logs, the ones that
// `go get` checks modules with. Nothing of fedseg is in here. Reads one JSON object a line, and answers each with a line:
// `ok`, or why not.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// question is what to check: a note alone, a proof under it, or a folder of tiles.
type question struct {
	Key    string   // verifier key of the log
	Note   string   // signed checkpoint
	Index  *int64   // number of the entry
	Entry  []byte   // bytes of the entry
	Old    string   // signed checkpoint of an earlier size
	Hashes []string // proof, in base64
	Tiles  string   // folder
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked question
		err = json.Unmarshal(line, &asked)
		if err == nil {
			err = check(asked)
		}
		if err != nil {
			fmt.Printf("%q\n", err.Error())
			continue
		}
		fmt.Println("ok")
	}
}

func check(asked question) error {
	if asked.Tiles != "" {
		return checkTiles(asked.Tiles, asked.Key)
	}
	tree, err := open(asked.Note, asked.Key)
	if err != nil {
		return err
	}
	hashes := make([]tlog.Hash, len(asked.Hashes))
	for place, text := range asked.Hashes {
		if hashes[place], err = tlog.ParseHash(text); err != nil {
			return err
		}
	}
	switch {
	case asked.Index != nil:
		return tlog.CheckRecord(hashes, tree.N, tree.Hash, *asked.Index, tlog.RecordHash(asked.Entry))
	case asked.Old != "":
		old, err := open(asked.Old, asked.Key)
		if err != nil {
			return err
		}
		return tlog.CheckTree(hashes, tree.N, tree.Hash, old.N, old.Hash)
	}
	return nil
}

// open verifies a note and reads the three lines of its checkpoint.
func open(signed, key string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open([]byte(signed), note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, errors.New("not a size")
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, err
}

// tiles reads the tiles of c2sp.org/tlog-tiles: those of package tlog of height 8, under paths that do not name it.
type tiles struct{ folder string }

func (from tiles) Height() int                              { return 8 }
func (from tiles) SaveTiles(found []tlog.Tile, _ [][]byte) {}
func (from tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(from.folder, path(tile)))
		if err != nil {
			return nil, err
		}
		read = append(read, data)
	}
	return read, nil
}

func path(tile tlog.Tile) string {
	name := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
	return strings.Replace(name, "tile/data/", "tile/entries/", 1)
}

// checkTiles proves every entry and every earlier size from the tiles of a folder, against its checkpoint.
func checkTiles(folder, key string) error {
	signed, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := open(string(signed), key)
	if err != nil {
		return err
	}
	// This reader authenticates every hash that it returns against the tree.
	reader := tlog.TileHashReader(tree, tiles{folder})
	for index := int64(0); index < tree.N; index++ {
		entry, err := readEntry(folder, tree.N, index)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if _, err := tlog.ProveTree(tree.N, index+1, reader); err != nil {
			return err
		}
	}
	return nil
}

func readEntry(folder string, size, index int64) ([]byte, error) {
	tile := tlog.Tile{H: 8, L: -1, N: index / 256, W: 256}
	if left := size - tile.N*256; left < 256 {
		tile.W = int(left)
	}
	data, err := os.ReadFile(filepath.Join(folder, path(tile)))
	if err != nil {
		return nil, err
	}
	for skip := index % 256; ; skip-- {
		if len(data) < 2 {
			return nil, errors.New("a bundle ends early")
		}
		length := int(data[0])<<8 | int(data[1])
		if len(data) < 2+length {
			return nil, errors.New("an entry ends early")
		}
		if skip == 0 {
			return data[2 : 2+length], nil
		}
		data = data[2+length:]
	}
}
