// What pages ask the server for, beside what it pushes.

export async function ask(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

// A page that asks again, some time after something has happened.
export class Asking {
  #timer = 0;

  later(least = 700) {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      if (this.element.isConnected) this.load();
    }, least + 800 * Math.random());
  }
}
