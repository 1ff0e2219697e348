"use strict";
// Counts a meter's past events on, request by request, while the page is open; or shows how far another process has come.
const form = document.getElementById("fm-count");
if (form && "counting" in form.dataset) {
  setTimeout(() => form.requestSubmit(), 300);
} else {
  setTimeout(() => location.reload(), 5000);
}
