"""A page of as many elements as a neuron has, none of which needs working out.

``benchmarks/crowd.py`` and ``benchmarks/browser.py`` serve it to learn how fast a machine runs
Streamlit alone.
"""

import streamlit as st

for place in range(6):
    with st.container(key=f"row{place}"), st.container(key=f"inner{place}"):
        st.html(f"<p>{'text ' * 400}{place}</p>")
        st.html(f"<p>{'more ' * 400}{place}</p>")
        st.markdown(f"{'words ' * 100}{place}")
columns = st.columns(2)
for place in range(4):
    columns[place % 2].button(
        "next" if place == 0 else f"button {place}", key=("next", "b1", "b2", "b3")[place]
    )
for place in range(3):
    st.segmented_control(f"choice {place}", ["a", "b", "c"], key=f"choice{place}")
    st.selectbox(f"one of many {place}", list(range(20)), key=f"many{place}")
st.text_input("text", key="text")
st.number_input("number", key="number")
st.slider("slider", 0, 10, key="slider")
st.checkbox("checkbox", key="checkbox")
st.session_state["runs"] = st.session_state.get("runs", 0) + 1
st.markdown(f"run {st.session_state['runs']}")
