"""Builds to and from object stores: real servers, kills, requests, speed."""
