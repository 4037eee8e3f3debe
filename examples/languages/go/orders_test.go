package main

import (
	"strings"
	"testing"

	"orders/slipring"
)

func TestAnOrderBecomesAViewWithItsRevisionAsVersion(t *testing.T) {
	payload := `{"id":17,"revision":3,"status":"paid","lines":[{"quantity":2,"price_cents":450},{"quantity":1,"price_cents":99}]}`
	publications, err := orders(slipring.Message{Payload: []byte(payload)})
	if err != nil || len(publications) != 1 {
		t.Fatal(publications, err)
	}
	publication := publications[0]
	if publication.Channels[0] != "orders:17" || publication.Version != 3 {
		t.Error(publication)
	}
	if view := string(publication.JSON); view != `{"status":"paid","items":3,"total_cents":999}` {
		t.Error(view)
	}
}

func TestADraftIsDropped(t *testing.T) {
	publications, err := orders(slipring.Message{Payload: []byte(`{"id":17,"revision":1,"status":"draft","lines":[]}`)})
	if err != nil || len(publications) != 0 {
		t.Error(publications, err)
	}
}

func TestAnUnknownStatusIsRejectedByName(t *testing.T) {
	_, err := orders(slipring.Message{Payload: []byte(`{"id":17,"revision":4,"status":"lost","lines":[]}`)})
	if err == nil || !strings.Contains(err.Error(), `"lost"`) {
		t.Error(err)
	}
}
