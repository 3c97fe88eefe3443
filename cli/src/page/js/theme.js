// Sets the chosen theme before anything is drawn, so that nothing flashes. The choice itself is made in header.js.
{
  const chosen = localStorage.getItem("tidegate-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
