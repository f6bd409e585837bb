"""A toy page."""

import streamlit as st

st.text("A page of an extension.")
