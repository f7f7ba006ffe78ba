package cli

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// modules reads a printed QR code back; true is black.
func modules(t *testing.T, printed string) [][]bool {
	t.Helper()
	upper := map[rune]bool{' ': true, '▄': true} // a block is white
	lower := map[rune]bool{' ': true, '▀': true}
	var grid [][]bool
	for text := range strings.Lines(strings.TrimPrefix(printed, "\n")) {
		top, bottom := []bool{}, []bool{}
		for _, r := range strings.TrimSuffix(text, "\n") {
			if !strings.ContainsRune(" ▄▀█", r) {
				t.Fatalf("%q in a QR code", r)
			}
			top, bottom = append(top, upper[r]), append(bottom, lower[r])
		}
		grid = append(grid, top, bottom)
	}
	return grid
}

func TestQRCodeIsTheLink(t *testing.T) {
	const link = "https://mesh.example.org/i/Ab3dEf6h"
	var out strings.Builder
	if err := printQR(&out, link); err != nil {
		t.Fatal(err)
	}
	grid := modules(t, out.String())
	code, err := qr.Encode(link, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	width := code.Size + 2*quietZone
	if len(grid) != width+width%2 {
		t.Fatalf("%d rows for a code of %d", len(grid), code.Size)
	}
	for y, row := range grid {
		if len(row) != width {
			t.Fatalf("row %d has %d modules, want %d", y, len(row), width)
		}
		for x, black := range row {
			// Outside of the code, Black is false: the quiet zone must be white.
			if black != code.Black(x-quietZone, y-quietZone) {
				t.Fatalf("the module at %d, %d is wrong", x, y)
			}
		}
	}
}

// What a reader looks for first: three squares in the corners, white around
// them and around it all.
func TestQRCodeHasItsFinders(t *testing.T) {
	var out strings.Builder
	if err := printQR(&out, "http://localhost:7900/i/AAAAAAAA"); err != nil {
		t.Fatal(err)
	}
	grid := modules(t, out.String())
	far := len(grid[0]) - quietZone - 7
	for _, corner := range [][2]int{{quietZone, quietZone}, {far, quietZone}, {quietZone, far}} {
		for y := -1; y <= 7; y++ {
			for x := -1; x <= 7; x++ {
				ring := max(abs(x-3), abs(y-3)) // 0 and 1: the middle; 3: the frame
				if want := ring != 2 && ring != 4; grid[corner[1]+y][corner[0]+x] != want {
					t.Errorf("finder at %v: module %d, %d is wrong", corner, x, y)
				}
			}
		}
	}
	for i := range quietZone {
		for x := range grid[0] {
			if grid[i][x] || grid[len(grid)-1-i][x] || grid[x][i] || grid[x][len(grid[0])-1-i] {
				t.Fatalf("the quiet zone is not white")
			}
		}
	}
}

func abs(n int) int { return max(n, -n) }

func TestQRCodeRefusesWhatDoesNotFit(t *testing.T) {
	if err := printQR(&strings.Builder{}, strings.Repeat("x", 4000)); err == nil {
		t.Error("no error")
	}
}
