// A place that takes an image from the clipboard, or one that is dropped, and hands it to Python as
// PNG. It is made no larger than encoders look at, so that a photograph is not sent whole.
const LONGEST = 768

export default function (component) {
  const { parentElement, setTriggerValue } = component
  const place = parentElement.querySelector(".paste")
  const said = parentElement.querySelector("[role=status]")
  if (!place || !said) return

  place.onpaste = (event) => {
    event.preventDefault()
    take([...(event.clipboardData?.items ?? [])].map((item) => item.getAsFile()))
  }
  place.ondragover = (event) => event.preventDefault()
  place.ondrop = (event) => {
    event.preventDefault()
    take([...(event.dataTransfer?.files ?? [])])
  }

  async function take(files) {
    const file = files.find((each) => each?.type.startsWith("image/"))
    if (!file) {
      said.textContent = "That was no image."
      return
    }
    try {
      const picture = await createImageBitmap(file)
      const scale = Math.min(1, LONGEST / Math.max(picture.width, picture.height))
      const canvas = document.createElement("canvas")
      canvas.width = Math.max(1, Math.round(picture.width * scale))
      canvas.height = Math.max(1, Math.round(picture.height * scale))
      const context = canvas.getContext("2d")
      context.imageSmoothingQuality = "high"
      context.drawImage(picture, 0, 0, canvas.width, canvas.height)
      said.textContent = "Looking at the image…"
      setTriggerValue("pasted", canvas.toDataURL("image/png").split(",")[1])
    } catch {
      said.textContent = "This image cannot be read."
    }
  }
}
